#!/usr/bin/env bash
# Install, lint, and run the tests; arguments are handed on to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt requirements-dev.txt
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
exec .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
