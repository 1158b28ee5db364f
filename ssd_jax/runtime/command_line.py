"""Command lines: absl's `app.run` with this project's exit codes and short messages."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging

from ssd_jax.config.versions import RENAMED_FIELDS
from ssd_jax.errors import ConfigError, ResourceError, SsdError

_DISK_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM,
)  # fmt: skip
_MISSING_FILE = re.compile(r"Failed loading config file .*No such file.*: '(.+)'", re.DOTALL)
_MAX_LINES = 4  # of an error of a config file


def run(main: Callable[[], None]) -> None:
    """Parse the flags and call `main`; a failure ends with its exit code and no traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    # Libraries log for their authors: Orbax writes a hundred lines about what it also raises.
    logging.set_verbosity(logging.FATAL)
    app.run(
        lambda _: exit_on_error(main), flags_parser=lambda argv: exit_on_error(lambda: _parse(argv))
    )


def parse_step_range(flag: flags.Flag, last: int) -> range:
    """Steps A to B, both included, of a flag "A:B" within 1 … `last`; empty where it is not given.

    Raises ConfigError for any other value.
    """
    if flag.value is None:
        return range(0)
    match = re.fullmatch(r"(\d+):(\d+)", flag.value)
    if match and 1 <= int(match[1]) <= int(match[2]) <= last:
        return range(int(match[1]), int(match[2]) + 1)
    raise ConfigError(
        f"--{flag.name}={flag.value} must be a first and a last step within 1 and "
        f"config.steps={last}, as --{flag.name}={min(11, last)}:{min(15, last)}"
    )


def _parse(argv: list[str]) -> list[str]:
    _check_renamed_fields(argv)
    try:
        unknown = flags.FLAGS(argv)[1:]
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            flags.FLAGS.config.to_dict()  # a file that could not be loaded raises only now
    except SystemExit:
        sys.exit(0)  # --help; absl would call that a failure
    except Exception as error:  # a config file is a program, and may fail in any way
        raise ConfigError(f"{format_error(error)}\nSee --help, or the README") from error
    if unknown:
        raise ConfigError(f"unknown argument {' '.join(unknown)}: flags are written --name=value")
    return argv[:1]


def _check_renamed_fields(argv: list[str]) -> None:
    names = [re.match(r"--?config\.([\w.]+)", argument) for argument in argv]
    renamed = [name[1] for name in names if name and name[1] in RENAMED_FIELDS]
    if renamed:
        raise ConfigError(
            "\n".join(f"config.{old} is now called config.{RENAMED_FIELDS[old]}" for old in renamed)
        )


def format_error(error: Exception) -> str:
    """The message of an error that a flag or a config file raised, in a few lines."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]  # ml_collections wraps one error in another
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if missing := _MISSING_FILE.search(text):
        return f"cannot load --config: no such file {missing[1]}"
    lines = [line for line in text.splitlines() if line.strip()][:_MAX_LINES]
    if len(lines) > 1 and lines[1].startswith("Did you mean"):
        lines = lines[1:]  # the first is the name alone
    if isinstance(error, AttributeError | KeyError):  # a config file may still use an old name
        lines += [
            f"config.{old} is now called config.{new}"
            for old, new in RENAMED_FIELDS.items()
            if re.match(rf"(?:Key )?[\"']{old.rpartition('.')[2]}[\"']", text)
        ]
    explains_itself = (flags.Error, AttributeError, KeyError, OSError, SsdError)
    kind = "" if isinstance(error, explains_itself) else f"{type(error).__name__}: "
    return kind + "\n".join(lines)


def exit_on_error(function: Callable):
    """Call it. Errors that a user can act on become a message and an exit code."""
    try:
        return function()
    except SsdError as error:
        _exit(str(error), error.exit_code)
    except KeyboardInterrupt:
        _exit("interrupted at once: what was not saved is lost", 128 + signal.SIGINT)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        _exit(
            f"cannot write: {error}\nFree disk space or fix the permissions, then start the same "
            "command again; older checkpoints are intact",
            ResourceError.exit_code,
        )


def _exit(message: str, code: int) -> NoReturn:
    """End with a message and an exit code; with the code alone where the log's disk is full."""
    try:
        print(message, file=sys.stderr, flush=True)
        sys.stdout.flush()
    except OSError:
        # What is left in their buffers would fail again at the end, and change the code.
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    sys.exit(code)
