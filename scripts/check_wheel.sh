#!/usr/bin/env bash
# Build the wheel, install it into an environment of its own, and use it there from an empty folder:
# import every module, open an old run, train, evaluate, predict, and run the tutorial.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt
root=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
  --wheel-dir "$folder" "$root"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$folder"/ssd_jax-*.whl
mkdir "$folder/empty"
cd "$folder/empty"
export JAX_PLATFORMS=cpu PATH="$folder/venv/bin:$PATH"
python - "$root/tests/fixtures/run_0_1" <<'CODE'
import importlib
import pkgutil
import sys

import ssd_jax

assert "jax" not in sys.modules, "importing ssd_jax starts JAX"
assert "site-packages" in ssd_jax.__file__, ssd_jax.__file__
names = [
    module.name
    for module in pkgutil.walk_packages(ssd_jax.__path__, "ssd_jax.")
    if not module.name.startswith("ssd_jax.configs")  # found by --config
]
for name in names:
    importlib.import_module(name)
print(f"wheel: {len(names)} modules, run of version 0.1 at step {ssd_jax.load(sys.argv[1]).step}")
CODE
ssd-jax train --config=quickstart --config.steps=4 --config.optim.warmup_steps=1 \
  --config.data.test="('shapes:test:8',)" --config.batch_size=4 --workdir=runs/new
ssd-jax eval --config=quickstart --config.steps=4 --config.optim.warmup_steps=1 \
  --config.data.test="('shapes:test:8',)" --config.batch_size=4 --workdir=runs/new
ssd-jax predict --workdir=runs/new --input="$root/docs/bccd.jpg"
test -s found/detections.json
ssd-jax weights > /dev/null
ssd-jax sweep --config=sweeps/prior_scales --workdir=sweep --dry_run > /dev/null
python -m ssd_jax.main --config=finetune:photographs --help > /dev/null
python - "$root/docs/bccd.jpg" <<'CODE'
import sys

import ssd_jax

model = ssd_jax.load("runs/new")
found = model(sys.argv[1], score_threshold=0.0)
print(f"wheel: {len(found)} boxes in Python")
CODE
# The tutorial's code, with a few steps.
sed -e 's/^config.steps = .*/config.steps = 4/' \
  -e 's/^config.eval_every = .*/config.eval_every = 0\nconfig.optim.warmup_steps = 1\nconfig.log_every = 2\nconfig.data.test = ("shapes:test:8",)/' \
  "$root/docs/tutorial.py" > tutorial.py
python tutorial.py > /dev/null
test -s found/scene.png
