#!/usr/bin/env bash
# Install the package into an environment of its own, import every module there, and open a run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt
root=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$root"
cd "$folder"
JAX_PLATFORMS=cpu venv/bin/python - "$root/tests/fixtures/run_0_1" <<'CODE'
import importlib
import pkgutil
import sys

import ssd_jax

assert "jax" not in sys.modules, "importing ssd_jax starts JAX"
assert "site-packages" in ssd_jax.__file__, ssd_jax.__file__
names = [module.name for module in pkgutil.walk_packages(ssd_jax.__path__, "ssd_jax.")]
for name in names:
    importlib.import_module(name)
print(f"wheel: {len(names)} modules, run of version 0.1 at step {ssd_jax.load(sys.argv[1]).step}")
CODE
venv/bin/python -m ssd_jax.main --help > /dev/null
