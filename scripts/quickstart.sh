#!/usr/bin/env bash
# Train a small detector on drawn shapes, in minutes on a CPU. Run again to resume; arguments are
# handed on to ssd_jax.main. At the end it prints the next commands.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt
exec .venv/bin/python -m scripts.quickstart "$@"
