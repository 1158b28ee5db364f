"""Imports point downward, room by room, and what is impure stays in its one file."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ssd_jax"
# A room may import those of earlier floors and, without circles, of its own.
FLOORS = (
    {"errors", "types"},
    {"multibox", "config", "runtime", "metrics", "visualize"},
    {"parameter_names", "early_stopping"},
    {"models", "data", "optimizer"},
    {"detector"},
    {"train_step"},
    {"runs", "prior_tuning", "ahead_of_time"},
    {"weights", "evaluate", "sweeps"},
    {"result", "training", "trainer", "recipe"},
    {"predictor"},
    {"prediction"},
    {"predict"},
    {"main", "commands"},
    {"cli"},
)
ONLY = {
    "orbax": {"runs.state_files"},
    "grain": {"data.loader", "data.worker_processes"},
    "flax": {"models", "optimizer", "detector", "train_step"},
    "pycocotools": {"metrics.coco"},
    "tensorboardX": {"runs.tensorboard"},
    "tqdm": {"runtime.progress", "runtime.download", "data.checks", "evaluate", "predict"},
    "matplotlib": {"prior_tuning.plot", "sweeps.figures"},
    "submitit": {"sweeps.slurm"},
    "yaml": {"data.formats.yolo"},
    "tensorflow": set(),
    "tensorflow_datasets": {"data.formats.tfds"},
    "torch": set(),
}
DEVICE_WORDS = {"local_devices", "devices", "process_index", "process_count", "device_count",
                "local_device_count", "pmap", "shard_map"}  # fmt: skip
DEVICE_FILES = {"runtime.devices", "runtime.distributed"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name):
    return name.split(".")[0]


def floor(name):
    return next(i for i, rooms in enumerate(FLOORS) if room(name) in rooms)


GRAPH = {
    name: {
        other.removeprefix("ssd_jax.") for other in imports(tree) if other.startswith("ssd_jax.")
    }
    for name, tree in modules()
    if name != "__init__"
}


def used(name):
    """Modules of the package that `name` imports: `errors.DataError` is `errors`."""
    for other in GRAPH[name]:
        while other not in GRAPH:
            other = other.rpartition(".")[0]
        if other != name and not name.startswith(f"{other}."):
            yield other


def rooms_used(name):
    """Rooms that the modules of a room import."""
    users = [module for module in GRAPH if room(module) == name]
    return {room(other) for module in users for other in used(module)} - {name}


@pytest.mark.parametrize("name", GRAPH)
def test_imports_point_downward(name):
    climbing = [other for other in used(name) if floor(other) > floor(name)]
    assert not climbing


@pytest.mark.parametrize(("graph", "nodes"), [(used, GRAPH), (rooms_used, {*map(room, GRAPH)})])
def test_no_circle_of_modules_or_of_rooms(graph, nodes):
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            path.append(name)
            for other in graph(name):
                visit(other)
            path.pop()
            done.add(name)

    for name in sorted(nodes):
        visit(name)


@pytest.mark.parametrize("library", ONLY)
def test_who_imports_what(library):
    users = {name for name, tree in modules() for other in imports(tree)
             if other.split(".")[0] == library}  # fmt: skip
    allowed = ONLY[library]
    assert not [name for name in users if name not in allowed and room(name) not in allowed
                and name.rpartition(".")[0] not in allowed]  # fmt: skip


def test_devices_are_known_in_two_files():
    for name, tree in modules():
        words = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "jax"
        }
        words |= {other.removeprefix("jax.") for other in imports(tree)}
        assert name in DEVICE_FILES or not words & DEVICE_WORDS, name


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=str)
def test_every_room_has_its_sign(path):
    """One docstring; no code but names that are handed on, and `load` of the package itself."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    if path.parent != PACKAGE:
        assert all(isinstance(node, ast.Expr | ast.ImportFrom) for node in tree.body)
    folders = {folder for folder in PACKAGE.rglob("*") if folder.is_dir()
               and any(folder.glob("*.py"))}  # fmt: skip
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_no_drawer_of_utilities():
    assert not [name for name in GRAPH if "util" in name or "common" in name or "misc" in name]
