"""Imports point downward, and what is impure stays in its one file."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ssd_jax"
FLOORS = (
    {"errors", "boxes", "losses", "parallel"},
    {"cli", "cluster", "checkpoint", "manifest", "logs", "draw", "decode", "schema", "config",
     "workdir", "optim", "priors", "matching", "postprocess", "augment", "photometric", "profile",
     "startup"},
    {"models", "data", "metrics", "importers"},
    {"step"},
    {"validation"},
    {"evaluate", "init"},
    {"predict", "train"},
    {"main"},
)  # fmt: skip
MODELS = ("conv", "depthwise", "heads", "mobilenet", "mobilenet_v3", "resnet", "small", "ssd",
          "vgg")  # fmt: skip
ONLY = {
    "orbax": {"checkpoint"},
    "grain": {"data.loader"},
    "flax": {"step", *(f"models.{name}" for name in MODELS)},
    "pycocotools": {"metrics.coco"},
    "tensorboardX": {"logs"},
    "tqdm": {"logs", "evaluate", "predict"},
    "matplotlib": set(),
    "yaml": {"data.yolo"},
    "tensorflow": set(),
    "tensorflow_datasets": {"data.tfds"},
    "torch": {"importers.files"},
}
DEVICE_WORDS = {"local_devices", "devices", "process_index", "process_count", "device_count",
                "local_device_count", "pmap", "shard_map"}  # fmt: skip


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


GRAPH = {
    name: {
        other.removeprefix("ssd_jax.") for other in imports(tree) if other.startswith("ssd_jax.")
    }
    for name, tree in modules()
}


def floor(name):
    return next(i for i, names in enumerate(FLOORS) if name.split(".")[0] in names)


def used(name):
    """Modules of the package that `name` imports: `errors.DataError` is `errors`."""
    for other in GRAPH[name]:
        while other not in GRAPH:
            other = other.rpartition(".")[0]
        if other != name and not name.startswith(f"{other}."):
            yield other


@pytest.mark.parametrize("name", [name for name in GRAPH if name not in ("__init__",)])
def test_imports_point_downward(name):
    climbing = [other for other in used(name) if floor(other) > floor(name)]
    assert not climbing


def test_no_cycle():
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            path.append(name)
            for other in used(name):
                visit(other)
            path.pop()
            done.add(name)

    for name in GRAPH:
        visit(name)


@pytest.mark.parametrize("library", ONLY)
def test_who_imports_what(library):
    users = {name for name, tree in modules() for other in imports(tree)
             if other.split(".")[0] == library}  # fmt: skip
    assert users <= ONLY[library]


def test_devices_are_known_in_one_place():
    for name, tree in modules():
        words = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "jax"
        }
        words |= {other.removeprefix("jax.") for other in imports(tree)}
        assert name == "parallel" or not words & DEVICE_WORDS, name


def code_lines(text):
    """Lines that are neither blank, nor a comment, nor of a docstring."""
    lines = {number for number, line in enumerate(text.splitlines(), 1)
             if line.strip() and not line.strip().startswith("#")}  # fmt: skip
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


# Weight files, readers beyond those of the paper's two data sets, and the data doctor.
PERIPHERY = (
    "importers", "data/check.py", "data/csv_lists.py", "data/shapes.py", "data/tfds.py",
    "data/yolo.py",
)  # fmt: skip


def test_files_stay_small():
    texts = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    assert len([text for text in texts.values() if text]) <= 60
    assert max(len(text.splitlines()) for text in texts.values()) <= 300
    lines = {name: code_lines(text) for name, text in texts.items()}
    assert sum(lines.values()) <= 6000
    assert sum(n for name, n in lines.items() if not name.startswith(PERIPHERY)) <= 4500
    assert not [name for name in texts if "util" in name]
