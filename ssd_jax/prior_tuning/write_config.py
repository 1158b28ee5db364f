"""A config file that starts from another one and sets tuned priors."""

import os
import runpy
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from ssd_jax.config.assignment import format_assignment
from ssd_jax.config.comparison import flatten_fields
from ssd_jax.config.packaged import configs_folder
from ssd_jax.errors import ConfigError


def check_output(path: Path) -> None:
    """Raise ConfigError for a path that cannot become a config file; nothing is overwritten."""
    if path.suffix != ".py":
        raise ConfigError(f"--apply={path}: a config is a Python file, name it .py")
    if path.exists():
        raise ConfigError(f"--apply={path}: this file exists; delete it or name another")


def config_source(path: Path, base: str, config: ConfigDict, description: str) -> str:
    """The source of a config file for `path`: `base`, FILE[:ARGUMENT], changed to `config`.

    Fields that were set by flags beside the file are set too. `description` becomes its docstring.
    """
    file, _, argument = base.partition(":")
    arguments = (argument,) if argument else ()
    original = flatten_fields(runpy.run_path(file)["get_config"](*arguments).to_dict())
    changed = {
        name: value
        for name, value in flatten_fields(config.to_dict()).items()
        if name not in original or original[name] != value
    }
    imports, get_config = _import_base(Path(file), path)
    first_line, *other_lines = description.splitlines()
    lines = [
        f'"""{first_line}', "", f"    python -m ssd_jax.main --config={path}", "", *other_lines, "",
        "Hardware and hours: not measured here.", "Score: not measured here.", '"""', "",
        *imports, "", "", "def get_config() -> ConfigDict:",
        '    """The experiment with tuned priors."""',
        f"    config = {get_config}({', '.join(map(repr, arguments))})",
        *(format_assignment(name, value) for name, value in changed.items()),
        "    return config", "",
    ]  # fmt: skip
    return "\n".join(lines)


def describe_tuning(base: str, annotations: str | None, report: Mapping) -> str:
    """The docstring of a written config: where its priors come from, and what they reach."""
    data = f"--annotations={annotations}" if annotations else "its training data"
    lines = [
        f"{base} with priors fitted to annotations.",
        "Sizes and aspect ratios by `ssd-jax tune-priors`.",
        f"From {report['images']} images of {data}.",
    ]
    for view, groups in report["fit"]["held out"].items():
        if groups["all"]["boxes"]:
            recall, mean_iou = (
                "{:.3f} -> {:.3f}".format(*groups["all"][name]) for name in ("recall", "mean_iou")
            )
            lines.append(
                f"Held-out boxes, {view}: prior recall {recall}, mean best IoU {mean_iou}."
            )
    return "\n".join(lines)


def _import_base(file: Path, path: Path) -> tuple[list[str], str]:
    """Import lines for `path`, and the name of `get_config` after them.

    A file outside `configs/` is run by its path, relative to that of the written file.
    """
    if file.resolve().parent == configs_folder():
        imports = ["from ml_collections import ConfigDict", "", f"from configs import {file.stem}"]
        return imports, f"{file.stem}.get_config"
    relative = os.path.relpath(file.resolve(), path.resolve().parent)
    imports = [
        "import runpy", "from pathlib import Path", "", "from ml_collections import ConfigDict", "",
        f"_BASE = runpy.run_path(str(Path(__file__).resolve().parent / {relative!r}))",
    ]  # fmt: skip
    return imports, '_BASE["get_config"]'
