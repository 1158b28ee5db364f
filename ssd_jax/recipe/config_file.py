"""The config file that a recipe is written as, `config.py` in the run folder.

The file is a choice that was made once: later starts of the run take it as it is. Its names PHOTOS
and READING tell what it was chosen for.
"""

import re
import runpy
import textwrap
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from ssd_jax.config import packaged
from ssd_jax.config.assignment import format_assignment, format_value
from ssd_jax.data.messages import printable
from ssd_jax.data.readings.reading import Reading
from ssd_jax.errors import ConfigError, SsdError
from ssd_jax.recipe.length import MAX_EVALUATIONS, MIN_PATIENCE
from ssd_jax.recipe.recipe import Recipe, describe_priors
from ssd_jax.recipe.setting import Setting

NAME = "config.py"
_WIDTH = 99  # of a line


class Written(NamedTuple):
    """What a written file says."""

    photos: str
    reading: int | None
    config: ConfigDict


def read_config_file(path: Path) -> Written | None:
    """What a file says; None for one that no recipe was written as.

    Raises ConfigError for a file that cannot be run.
    """
    packaged.make_importable()
    try:
        names = runpy.run_path(str(path))
        if "PHOTOS" not in names:
            return None
        return Written(names["PHOTOS"], names.get("READING"), names["get_config"]())
    except SsdError:
        raise
    except Exception as error:  # a config file is a program, and may fail in any way
        raise ConfigError(f"cannot load {path}: {type(error).__name__}: {error}") from error


def format_config_file(recipe: Recipe, folder: Path, reading: int | None) -> str:
    """The source of the config file of a recipe in the run folder `folder`, an absolute path.

    `reading` is the number that the command line gave.
    """
    module, _, argument = recipe.start.base.partition(":")
    photos = recipe.photographs.folder
    lines = [
        *_docstring(recipe, folder), "",
        "from ml_collections import ConfigDict", "", f"from configs import {module}", "",
        f"PHOTOS = {format_value(str(photos))}",
        *([f"READING = {reading}"] if reading else []),
        f"COUNT = {recipe.count}  # photographs that train", "", "",
        f'def get_config(epochs: str = "{recipe.epochs}") -> ConfigDict:',
        '    """The experiment; its length may be named behind the file, as FILE:EPOCHS."""',
        f"    config = {module}.get_config({format_value(argument) if argument else ''})",
        *_format_data(recipe.photographs.settings, recipe.photographs.reading, str(photos)), "",
        f"    # {_start_comment(recipe)}", *_format_all(recipe.start.settings),
        *_prior_lines(recipe), "", *_length_lines(recipe), "    return config", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _docstring(recipe: Recipe, folder: Path) -> list[str]:
    """What was found, why it starts so, and the commands."""
    photos, where = recipe.photographs, _in_docstring(str(folder / NAME))
    lines = [
        f'"""{_in_docstring(photos.folder.name)}: what `ssd-jax train` chose for this folder.', "",
        f"    ssd-jax train {_in_docstring(str(photos.folder))} "
        f"--workdir={_in_docstring(str(folder))}",
        f"    python -m ssd_jax.main --config={where} --workdir={_in_docstring(str(folder))}", "",
        "Either goes on with the run. To change something, copy this file, and start the copy by",
        "--config in another --workdir.", "",
        *_wrap(_in_docstring(photos.reading.summary)),
        *_wrap(f"Sets: {photos.roles}."),
        *_wrap(f"Start: {_in_docstring(recipe.start.why)}."),
    ]  # fmt: skip
    if text := describe_priors(recipe):
        lines += _wrap(f"Priors: {text}.")
    return [
        *lines,
        "",
        "Hardware and hours: not measured here.",
        "Score: not measured here.",
        '"""',
    ]


def _in_docstring(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _format_data(settings: tuple[Setting, ...], reading: Reading, photos: str) -> list[str]:
    """Sets as they lie below PHOTOS, so that one line changes where photographs have moved."""
    lines = []
    for name, value, reason in settings:
        specs = [each for each in value if each in reading.specs.values()]
        if specs:
            texts = ", ".join(_below_photos(spec, photos) for spec in specs)
            lines.append(f"    config.{name} = ({texts},)" + (f"  # {reason}" if reason else ""))
        else:
            lines.append(format_assignment(name, value, reason))
    return lines


def _below_photos(spec: str, photos: str) -> str:
    """The name of a data set as an expression, as 'voc:' + PHOTOS + ':train'."""
    parts = re.split(rf"(?<=:){re.escape(photos)}(?=[/:]|$)", spec)
    return " + PHOTOS + ".join(format_value(part) for part in parts)


def _format_all(settings: tuple[Setting, ...]) -> list[str]:
    return [format_assignment(*each) for each in settings]


def _start_comment(recipe: Recipe) -> str:
    page = recipe.start.measured.page
    if recipe.start.is_measured:
        return f"All that {recipe.start.base} sets was measured: {page}."
    return f"Not measured with these weights. With others it was: {page}."


def _prior_lines(recipe: Recipe) -> list[str]:
    settings = _format_all(recipe.priors.settings)
    return ["", *settings] if settings else []


def _length_lines(recipe: Recipe) -> list[str]:
    """Steps, and what depends on them, by references: flags may change steps and batch size."""
    measured = recipe.start.measured
    return [
        f"    # {measured.steps} steps of 16 were measured on about {measured.photographs} "
        "photographs; steps grow with the",
        "    # square root of their number, which was not measured.",
        '    batch_size = config.get_oneway_ref("batch_size")',
        "    config.steps = (COUNT * int(epochs) + batch_size - 1) // batch_size",
        '    steps = config.get_oneway_ref("steps")',
        f"    config.optim.warmup_steps = steps // {measured.warmup_part}",
        f"    evaluations = min(int(epochs), {MAX_EVALUATIONS})  # once an epoch",
        "    config.eval_every = (steps + evaluations - 1) // evaluations",
        f"    config.patience = max({MIN_PATIENCE}, evaluations // 2)  # evaluations that are not "
        "better",
    ]
