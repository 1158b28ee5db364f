"""A config file that is another one with tuned priors."""

import os
import runpy
from pathlib import Path
from pprint import pformat

from ml_collections import ConfigDict

from ssd_jax.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def check(path: Path) -> None:
    """Raise ConfigError for a place where no config can be written; nothing is overwritten."""
    if path.suffix != ".py":
        raise ConfigError(f"--apply={path}: a config is a Python file, name it .py")
    if path.exists():
        raise ConfigError(f"--apply={path}: there is such a file; delete it or name another")


def text(path: Path, base: str, config: ConfigDict, story: str) -> str:
    """The source of a config file for `path`: `base`, FILE[:ARGUMENT], changed to `config`.

    Fields that were given as flags beside the file are set too.
    """
    file, _, argument = base.partition(":")
    given = (argument,) if argument else ()
    original = ConfigDict(runpy.run_path(file)["get_config"](*given).to_dict())
    changes = _differences(original.to_dict(), config.to_dict())
    imports, module = _imported(Path(file), path)
    call = f"{module}({', '.join(map(repr, given))})"
    first_line, *story_lines = story.splitlines()
    lines = [
        f'"""{first_line}', "", f"    python -m ssd_jax.main --config={path}", "", *story_lines, "",
        "Hardware and hours: not measured here.", "Score: not measured here.", '"""', "",
        *imports, "", "", "def get_config() -> ConfigDict:",
        '    """The experiment with tuned priors."""', f"    config = {call}",
        *(_assignment(name, value) for name, value in changes.items()), "    return config", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _imported(file: Path, path: Path) -> tuple[list[str], str]:
    """Lines of import, and the name of `get_config`; a file elsewhere is found by its place."""
    if file.resolve().parent == ROOT / "configs":
        imports = ["from ml_collections import ConfigDict", "", f"from configs import {file.stem}"]
        return imports, f"{file.stem}.get_config"
    place = os.path.relpath(file.resolve(), path.resolve().parent)
    imports = [
        "import runpy",
        "from pathlib import Path",
        "",
        "from ml_collections import ConfigDict",
    ]
    imports += ["", f"_BASE = runpy.run_path(str(Path(__file__).resolve().parent / {place!r}))"]
    return imports, '_BASE["get_config"]'


def _differences(old: dict, new: dict, prefix: str = "") -> dict:
    """Dotted names of fields whose values differ, with the new ones."""
    found = {}
    for name, value in new.items():
        if isinstance(value, dict):
            found |= _differences(old.get(name, {}), value, f"{prefix}{name}.")
        elif name not in old or old[name] != value:
            found[f"{prefix}{name}"] = value
    return found


def _assignment(name: str, value) -> str:
    start = f"    config.{name} = "
    return start + pformat(value, width=96 - len(start)).replace("\n", "\n" + " " * len(start))
