"""Command lines: absl's `app.run` with this project's exit codes and short messages."""

import difflib
import errno
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import NoReturn

from absl import app, flags, logging

from ssd_jax.config import packaged
from ssd_jax.config.schema import FIELDS
from ssd_jax.config.versions import RENAMED_FIELDS
from ssd_jax.errors import ConfigError, ResourceError, SsdError
from ssd_jax.runtime.suggestions import is_field, suggest

_DISK_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM,
)  # fmt: skip
_MISSING_FILE = re.compile(r"Failed loading config file .*No such file.*: '(.+)'", re.DOTALL)
_COMMON_FIELDS = (  # named by --help; docs/config.md has all
    "steps", "batch_size", "optim.learning_rate", "optim.warmup_steps", "data.train", "data.test",
    "data.classes", "init.source", "eval_every", "model.dtype",
)  # fmt: skip
_MAX_LINES = 4  # of an error of a config file


def run_command(command: ModuleType, defaults: Mapping[str, str] = MappingProxyType({})) -> None:
    """Run a module with `define_flags` and `main`; --help prints its docstring and its flags.

    Words that stand alone go to the flag that the module names in `WORDS`, if it does. `defaults`
    replaces defaults of flags.
    """
    before = set(flags.FLAGS)
    command.define_flags()
    for name, value in defaults.items():
        flags.FLAGS.set_default(name, value)
    own = [name for name in flags.FLAGS if name not in before]
    words = getattr(command, "WORDS", "")
    run(command.main, lambda: f"{command.__doc__}\n{_describe_flags(own)}", words)


def _describe_flags(names: list[str]) -> str:
    lines = ["Flags:"]
    for name in names:
        flag = flags.FLAGS[name]
        default = "" if flag.default in (None, "", False, []) else f" [{flag.default}]"
        meaning = " ".join(flag.help.split())  # absl adds lines to what may be repeated
        lines.append(f"  --{name:16s} {meaning}{default}")
    if "config" in names:
        lines += ["", "Fields of the config that change most, as --config.steps=1000:"]
        lines += [f"  --config.{name:24s} {FIELDS[name].meaning}" for name in _COMMON_FIELDS]
        lines += ["", "Configs by name, as --config=quickstart:"]
        names = ", ".join(packaged.list_configs())
        lines += textwrap.wrap(names, 98, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def run(
    main: Callable[[], None], help_text: Callable[[], str] | None = None, words: str = ""
) -> None:
    """Parse the flags and call `main`; a failure ends with its exit code and no traceback.

    `words` is the flag that takes several values and the words that stand alone.
    """
    packaged.make_importable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    # Libraries log for their authors: Orbax writes a hundred lines about what it also raises.
    logging.set_verbosity(logging.FATAL)
    if help_text and {"--help", "-help", "-h"} & set(sys.argv[1:]):
        print(help_text())
        sys.exit(0)
    app.run(
        lambda _: exit_on_error(main),
        flags_parser=lambda argv: exit_on_error(lambda: _parse(argv, words)),
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


def _parse(argv: list[str], words: str) -> list[str]:
    _check_renamed_fields(argv)
    argv = _with_tuples(_with_config_file(argv))
    try:
        unknown = flags.FLAGS(argv)[1:]
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            flags.FLAGS.config.to_dict()  # a file that could not be loaded raises only now
    except SystemExit:
        sys.exit(0)  # --help; absl would call that a failure
    except Exception as error:  # a config file is a program, and may fail in any way
        message = _explain_unknown(error, argv) or format_error(error)
        raise ConfigError(f"{message}\nSee --help, or the README") from error
    if unknown and words:
        flags.FLAGS[words].value = [*(flags.FLAGS[words].value or ()), *unknown]
    elif unknown:
        raise ConfigError(f"unknown argument {' '.join(unknown)}: flags are written --name=value")
    return argv[:1]


def _explain_unknown(error: Exception, argv: list[str]) -> str:
    """Of a flag or field that does not exist, with what may have been meant; "" of others."""
    if isinstance(error, flags.UnrecognizedFlagError):
        name = error.flagname
    elif isinstance(error, AttributeError | KeyError):
        fields = (re.match(r"--?config\.([\w.]+)", argument) for argument in argv)
        name = next((f"config.{each[1]}" for each in fields if each and not is_field(each[1])), "")
    else:
        return ""
    if not name:
        return ""
    meant = suggest(name, list(flags.FLAGS))
    hint = f": did you mean --{' or --'.join(meant)}?" if meant else ""
    return f"there is no --{name}{hint}"


def _with_config_file(argv: list[str]) -> list[str]:
    """The arguments with the file of a config that is named, as in --config=quickstart."""
    given = re.compile(r"(--?config=)(.*)", re.DOTALL)
    argv = [
        match[1] + packaged.find_config(match[2]) if (match := given.fullmatch(each)) else each
        for each in argv
    ]
    for i, each in enumerate(argv[:-1]):
        if each in ("--config", "-config"):
            argv[i + 1] = packaged.find_config(argv[i + 1])
    return argv


def _with_tuples(argv: list[str]) -> list[str]:
    """The arguments with a tuple of one where a field wants a tuple of texts and is given a text.

    `--config.data.classes=cat,dog` names two.
    """
    given = re.compile(r"--?config\.([\w.]+)=(.*)", re.DOTALL)
    result = []
    for argument in argv:
        match = given.fullmatch(argument)
        if match and match[1] in FIELDS and not match[2].lstrip().startswith(("(", "[")):
            parts = match[2].split(",") if match[1] == "data.classes" else [match[2]]
            values, rule = tuple(each.strip() for each in parts), FIELDS[match[1]].rule
            if rule.is_valid(values) and not rule.is_valid(match[2]):
                argument = f"--config.{match[1]}={values!r}"
        result.append(argument)
    return result


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
        name = Path(missing[1]).stem
        near = difflib.get_close_matches(name, packaged.list_configs(), n=3)
        return f"cannot load --config: no such file {missing[1]}" + (
            f"; there is --config={' or --config='.join(near)}" if near else ""
        )
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
    except BrokenPipeError:  # whoever reads the output has read enough, as `head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        sys.exit(128 + signal.SIGPIPE)
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
