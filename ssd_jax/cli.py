"""Command lines: absl's `app.run` with this project's exit codes and one-line messages."""

import sys
from collections.abc import Callable

from absl import app, flags, logging

from ssd_jax.errors import ConfigError, SsdError

# What ml_collections and config files raise for a wrong name, type, value or file.
_USAGE_ERRORS = (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, IndexError)


def run(main: Callable[[], None]) -> None:
    """Parse the flags and call `main`; a failure ends with its exit code and no traceback."""
    logging.set_verbosity(logging.WARNING)  # what libraries log at INFO is for their authors
    app.run(lambda _: _guarded(main), flags_parser=lambda argv: _guarded(lambda: _parse(argv)))


def _parse(argv: list[str]) -> list[str]:
    try:
        unknown = flags.FLAGS(argv)[1:]
        if "config" in flags.FLAGS:
            flags.FLAGS.config.to_dict()  # a file that could not be loaded says so only now
    except _USAGE_ERRORS as error:
        raise ConfigError(f"{_first_lines(error)}\nSee --help, or the README") from error
    if unknown:
        raise ConfigError(f"what is {' '.join(unknown)}? Flags are written --name=value")
    return argv[:1]


def _first_lines(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:3]) or type(error).__name__


def _guarded(function: Callable):
    try:
        return function()
    except SsdError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
