"""The configs of this project by name, from any folder: `configs/` beside the package, or in it.

The installed package has them as `ssd_jax.configs`. Config files import each other as `configs`,
there as in a checkout.
"""

import difflib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from ml_collections import ConfigDict

import ssd_jax
from ssd_jax.errors import ConfigError

_PACKAGE = Path(ssd_jax.__file__).resolve().parent


def configs_folder() -> Path:
    """The folder of config files."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def list_configs() -> list[str]:
    """Names for `--config`; those of sweeps as `sweeps/NAME`."""
    folder = configs_folder()
    names = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py"))
    return sorted(name.as_posix() for name in names if name.stem not in ("base", "presets"))


def find_config(value: str) -> str:
    """`quickstart` or `finetune:FOLDER` with the path of its file; any other value unchanged."""
    name, colon, argument = value.partition(":")
    if name not in list_configs():
        return value
    return f"{configs_folder() / name}.py{colon}{argument}"


def load_config(value: str) -> ConfigDict:
    """The config of a name or of a Python file, as `quickstart` or `my.py:ARGUMENT`.

    Raises ConfigError where there is no such file.
    """
    make_importable()
    path, _, argument = find_config(value).partition(":")
    if not Path(path).is_file():
        near = difflib.get_close_matches(Path(path).stem, list_configs()) or list_configs()
        raise ConfigError(f"no config {value}: there is no such file; by name {', '.join(near)}")
    spec = spec_from_file_location(f"config_{Path(path).stem}", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument) if argument else module.get_config()


def make_importable() -> None:
    """Let config files import `configs`: the project's, then those on the path of this process."""
    finder = _ConfigsFinder()
    if not any(isinstance(each, _ConfigsFinder) for each in sys.meta_path):
        sys.meta_path.insert(0, finder)


class _ConfigsFinder:
    """Finds the package `configs` in several folders; its files are found as usual."""

    @staticmethod
    def find_spec(name: str, path=None, target=None) -> ModuleSpec | None:
        if name != "configs":
            return None
        others = PathFinder.find_spec(name)
        spec = ModuleSpec(name, None, is_package=True)
        found = list(others.submodule_search_locations or ()) if others else []
        spec.submodule_search_locations = list(dict.fromkeys([str(configs_folder()), *found]))
        return spec
