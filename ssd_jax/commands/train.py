"""Train a detector on a folder of photographs, or the experiment of a config.

    ssd-jax train PHOTOS [--workdir=runs/mine] [--weights=auto|none|NAME] [--epochs=N]
    ssd-jax train --config=NAME [--workdir=DIR]

PHOTOS is a folder of PASCAL VOC, YOLO, COCO or CSV. What is trained is chosen by what the folder
holds, said, and written to WORKDIR/config.py; other flags, as --config.batch_size=8, change it.
docs/own_photographs.md explains what the run says.

The same command resumes a run that was stopped. Run folder and exit codes: docs/operations.md.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from absl import flags

from ssd_jax import main as ssd_main
from ssd_jax.config import packaged
from ssd_jax.config.rules import BOOL
from ssd_jax.config.schema import FIELDS
from ssd_jax.errors import ConfigError
from ssd_jax.runtime import command_line

_HELP = ("--help", "-help", "-h")
# Names of folders that say nothing of what is in them.
_GENERAL = (
    "data", "dataset", "datasets", "images", "imgs", "jpegimages", "photographs", "photos",
    "pictures", "export", "train",
)  # fmt: skip
_VALUED = ("config", "mode", "checkpoint", "profile_steps", "coordinator", "num_processes",
           "process_id", "weights", "epochs", "reading", "workdir")  # fmt: skip


class Request(NamedTuple):
    """What a command line with a folder asks for."""

    photos: Path  # absolute
    workdir: Path
    weights: str | None
    epochs: int | None
    reading: int | None
    others: list[str]  # arguments for training


def run() -> None:
    """The command of `sys.argv`."""
    request = None
    if not {*_HELP} & set(sys.argv[1:]):
        request = command_line.exit_on_error(lambda: parse_request(sys.argv))
    if request is None:
        command_line.run_command(sys.modules[__name__])
        return
    # Imported here, so that --help does not wait for JAX.
    from ssd_jax.runs.folder import remove_failed_start

    with remove_failed_start(request.workdir, is_main=True), _remove_unused(request.workdir):
        sys.argv[1:] = command_line.exit_on_error(lambda: prepare(request))
        command_line.run_command(ssd_main)


def define_flags() -> None:
    """The command's flags."""
    _define_own(flags.FLAGS)
    ssd_main.define_flags()


def _define_own(values: flags.FlagValues) -> None:
    """The flags that go with PHOTOS."""
    flags.DEFINE_string(
        "weights", None, "To start from: auto, which never downloads; none; a name of `ssd-jax "
        "weights`, which is downloaded; or a run folder. [auto]", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "epochs", None, "Length, in passes through the photographs.", 1, flag_values=values
    )
    flags.DEFINE_integer(
        "reading", None, "Of a folder that can be read in several ways, the number of one.", 1,
        flag_values=values,
    )  # fmt: skip


def main() -> None:
    """The command without a folder."""
    given = flags.FLAGS
    own = [name for name in ("weights", "epochs", "reading") if given[name].present]
    if own:
        raise ConfigError(
            f"--{own[0]} goes with a folder, as in ssd-jax train PHOTOS --{own[0]}=…; with "
            "--config write --config.init.source or --config.steps"
        )
    if given.config is None:
        raise ConfigError(
            "name a folder of photographs, as in ssd-jax train PHOTOS, or --config=NAME; see --help"
        )
    ssd_main.main()


def parse_request(argv: list[str]) -> Request | None:
    """What a command line asks for; None without a word that stands alone.

    Raises ConfigError for several words, for one beside --config, and for wrong values.
    """
    own = flags.FlagValues()
    _define_own(own)
    flags.DEFINE_string("workdir", None, "", flag_values=own)
    try:
        rest = own(_join_values(argv), known_only=True)[1:]
    except flags.Error as error:
        raise ConfigError(f"{error}; see ssd-jax train --help") from error
    words = [each for each in rest if not each.startswith("-")]
    others = [each for each in rest if each.startswith("-")]
    if not words:
        return None
    if len(words) > 1:
        raise ConfigError(
            f"one folder of photographs, not {' and '.join(words)}: put them into one folder, or "
            'quote a name with spaces, as "my photos"'
        )
    _check_others(words[0], others)
    photos = Path(os.path.abspath(Path(words[0]).expanduser()))
    workdir = Path(own.workdir).expanduser() if own.workdir else default_workdir(photos)
    if ":" in str(workdir):
        raise ConfigError(f"--workdir={workdir}: the folder of a config may have no colon")
    return Request(photos, workdir, own.weights, own.epochs, own.reading, others)


def _join_values(argv: list[str]) -> list[str]:
    """The arguments with `--flag value` as `--flag=value`, so that only words stand alone."""
    joined, rest = [], list(argv)
    while rest:
        argument = rest.pop(0)
        if rest and _takes_value(argument) and not rest[0].startswith("--"):
            argument = f"{argument}={rest.pop(0)}"
        joined.append(argument)
    return joined


def _takes_value(argument: str) -> bool:
    match = re.fullmatch(r"--?(config\.)?([\w.]+)", argument)
    if not match:
        return False
    if match[1]:
        return match[2] not in FIELDS or FIELDS[match[2]].rule is not BOOL
    return match[2] in _VALUED


def _check_others(word: str, others: list[str]) -> None:
    if any(re.match("--?config=", each) for each in others):
        raise ConfigError(
            f"a folder ({word}) and --config: leave out one of them. To train a config on other "
            "photographs write --config.data.train and --config.data.test"
        )
    if any(re.match("--?mode=eval", each) for each in others):
        raise ConfigError("to evaluate a run write ssd-jax eval --workdir=RUN")
    if any(re.match("--?config\\.batch_size=0", each) for each in others):
        raise ConfigError("config.batch_size=0 must be an integer of at least 1")  # steps divide it
    if word in packaged.list_configs() and not Path(word).expanduser().exists():
        raise ConfigError(f"there is no folder {word}: for the config write --config={word}")


def default_workdir(photos: Path) -> Path:
    """runs/NAME of the folder, or of one above it where its name is as general as `images`."""
    names = [name for name in reversed(photos.parts[1:])]
    telling = (name for name in names if name.lower() not in _GENERAL)
    name = next(telling, names[0] if names else "photographs")
    return Path("runs") / name.replace(":", "_")


def prepare(request: Request) -> list[str]:
    """Choose a config, or find that of the run; returns the arguments that train it.

    Raises ConfigError where the run folder holds something else.
    """
    from ssd_jax.recipe.config_file import NAME
    from ssd_jax.runs.folder import is_run

    path = request.workdir / NAME
    arguments = [f"--workdir={request.workdir}", *request.others]
    if is_run(request.workdir):
        kept = _arguments_of_run(request, path)
        length = f":{request.epochs}" if request.epochs else ""
        return [f"--config={path}{length}", *kept, *arguments]
    _choose(request, path)
    return [f"--config={path}", *arguments]


def _choose(request: Request, path: Path) -> None:
    """Choose, say what, and write the config file."""
    from ssd_jax.recipe.config_file import format_config_file
    from ssd_jax.recipe.recipe import choose_recipe, describe_recipe
    from ssd_jax.runtime.files import read_if_possible, write_bytes
    from ssd_jax.runtime.progress import log_line

    recipe = choose_recipe(
        request.photos, request.weights or "auto", request.epochs, request.reading
    )
    for name, text in describe_recipe(recipe):
        log_line(f"{name:10s} {text}")
    folder = Path(os.path.abspath(request.workdir))
    content = format_config_file(recipe, folder, request.reading).encode()
    if read_if_possible(path) not in (None, content):
        raise ConfigError(
            f"{path} is there, is not of a run, and says something else: start it with "
            f"--config={path}, remove it, or choose another --workdir"
        )
    write_bytes(path, content)
    log_line(f"config     {path}")


def _arguments_of_run(request: Request, path: Path) -> list[str]:
    """Check that a run is the one that is asked for; returns what its saved config decides.

    A warm-up that follows the steps would make a run of another length another experiment.
    """
    from ssd_jax.recipe.config_file import read_config_file
    from ssd_jax.recipe.start import AUTO, source_of
    from ssd_jax.runs.folder import read_saved_config
    from ssd_jax.runtime.progress import log_line

    written = read_config_file(path) if path.exists() else None
    if written is None:
        raise ConfigError(
            f"{request.workdir} is a run that was not started with a folder: go on with its own "
            "command, or choose another --workdir"
        )
    if not _is_same(written, request):
        raise ConfigError(
            f"{request.workdir} is a run with other photographs: {written.photos}, and not "
            f"{request.photos}. Choose another --workdir; if photographs have moved, change PHOTOS "
            f"in {path}"
        )
    source = written.config.init.source
    if request.weights not in (None, AUTO, source) and source_of(request.weights) != source:
        raise ConfigError(
            f"{request.workdir} is a run that started from {source or 'random weights'}, and not "
            f"from {request.weights}: choose another --workdir, or remove that folder"
        )
    log_line(f"config     {path}, as the run began with it")
    saved = read_saved_config(request.workdir)
    return [] if saved is None else [f"--config.optim.warmup_steps={saved.optim.warmup_steps}"]


def _is_same(written, request: Request) -> bool:
    is_same = os.path.realpath(written.photos) == os.path.realpath(request.photos)
    return is_same and request.reading in (None, written.reading)


@contextmanager
def _remove_unused(workdir: Path) -> Iterator[None]:
    """Remove the config file of a start that fails before there is a run, if it made it."""
    from ssd_jax.recipe.config_file import NAME
    from ssd_jax.runs.folder import is_run

    was_there = (workdir / NAME).exists()
    try:
        yield
    except BaseException:
        if not was_there and not is_run(workdir):
            (workdir / NAME).unlink(missing_ok=True)
        raise
