# Sourced by the other scripts: makes .venv and installs the requirement files given as arguments.
# PYTHON names the interpreter to start from (3.11 or newer); a second call installs nothing.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x .venv/bin/python ]; then
  for python in "${PYTHON:-}" python3.12 python3.11 python3; do
    if [ -n "$python" ] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      break
    fi
    python=
  done
  if [ -z "$python" ]; then
    echo "Python 3.11 or newer is needed; set PYTHON to one" >&2
    exit 6
  fi
  echo "making .venv with $($python --version)"
  "$python" -m venv .venv
fi

stamp=.venv/installed-$(cat "$@" | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
  echo "installing $*; this takes about a minute, and longer over a slow network"
  # shellcheck disable=SC2046
  .venv/bin/python -m pip install --quiet --disable-pip-version-check $(printf -- '-r %s ' "$@")
  # `ssd-jax` too, of this checkout.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
  touch "$stamp"
fi
