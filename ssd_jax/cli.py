"""Command lines: absl's `app.run` with this project's exit codes and one-line messages."""

import errno
import re
import signal
import sys
from collections.abc import Callable

from absl import app, flags, logging

from ssd_jax.errors import ConfigError, MachineError, SsdError

_DISK_TROUBLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM,
)  # fmt: skip


def run(main: Callable[[], None]) -> None:
    """Parse the flags and call `main`; a failure ends with its exit code and no traceback."""
    # Libraries log for their authors: Orbax a hundred lines for what it also raises.
    logging.set_verbosity(logging.FATAL)
    app.run(lambda _: guarded(main), flags_parser=lambda argv: guarded(lambda: _parse(argv)))


def step_range(flag: flags.Flag, last: int) -> range:
    """Steps A … B, both included, of a flag "A:B" within 1 … `last`; none where it is not given.

    Raises ConfigError for any other value.
    """
    if flag.value is None:
        return range(0)
    found = re.fullmatch(r"(\d+):(\d+)", flag.value)
    if found and 1 <= int(found[1]) <= int(found[2]) <= last:
        return range(int(found[1]), int(found[2]) + 1)
    raise ConfigError(
        f"--{flag.name}={flag.value} must be a first and a last step of 1 to config.steps={last}, "
        f"as --{flag.name}={min(11, last)}:{min(15, last)}"
    )


def _parse(argv: list[str]) -> list[str]:
    try:
        unknown = flags.FLAGS(argv)[1:]
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            flags.FLAGS.config.to_dict()  # a file that could not be loaded says so only now
    except SystemExit:
        sys.exit(0)  # --help; absl would call that a failure
    except Exception as error:  # a config file is a program, and may fail in any way
        raise ConfigError(f"{_short(error)}\nSee --help, or the README") from error
    if unknown:
        raise ConfigError(f"what is {' '.join(unknown)}? Flags are written --name=value")
    return argv[:1]


def _short(error: Exception) -> str:
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]  # ml_collections puts one into another
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    expected = (flags.Error, AttributeError, KeyError, OSError, SsdError)
    kind = "" if isinstance(error, expected) else f"{type(error).__name__}: "
    return kind + "\n".join(lines[:4])


def guarded(function: Callable):
    """Call it; what can be expected to go wrong becomes a message and an exit code."""
    try:
        return function()
    except SsdError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted at once: what came after the last save is lost", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        if error.errno not in _DISK_TROUBLE:
            raise
        print(
            f"cannot write: {error}\nFree the disk, or mend the rights, then start the same "
            "command again; older checkpoints are intact",
            file=sys.stderr,
        )
        sys.exit(MachineError.exit_code)
