"""Which flag, or field of a config, an unknown name may have meant."""

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from ssd_jax.config.schema import FIELDS

_CANDIDATES = 3
# Names that other detection projects use.
_OTHER_NAMES = {
    "epochs": "config.steps", "max_iter": "config.steps", "num_steps": "config.steps",
    "train_steps": "config.steps", "lr": "config.optim.learning_rate",
    "lr0": "config.optim.learning_rate", "warmup": "config.optim.warmup_steps",
    "batch": "config.batch_size", "imgsz": "config.image_size", "img_size": "config.image_size",
    "data": "config.data.train", "classes": "config.data.classes", "names": "config.data.classes",
    "num_workers": "config.data.workers", "pretrained": "config.init.source",
    "weights": "config.init.source", "fp16": "config.model.dtype", "amp": "config.model.dtype",
    "resume": "workdir", "output_dir": "workdir", "project": "workdir", "run": "workdir",
    "threshold": "score_threshold", "conf": "score_threshold", "source": "input",
    "images": "input", "out": "output",
}  # fmt: skip


def suggest(name: str, flags: Iterable[str]) -> list[str]:
    """The flags among `flags`, and fields if there is a flag `config`, that are like `name`."""
    known = set(flags)
    if "config" in known:
        known |= {f"config.{field}" for field in FIELDS if not field.endswith("*")}
    name = name.replace("-", "_")
    leaf = name.rpartition(".")[2]
    meant = [_OTHER_NAMES[leaf]] if _OTHER_NAMES.get(leaf) in known else []
    by_leaf: dict[str, list[str]] = {}
    for each in sorted(known):
        by_leaf.setdefault(each.rpartition(".")[2], []).append(each)
    for near in difflib.get_close_matches(leaf, by_leaf, n=_CANDIDATES, cutoff=0.7):
        meant += by_leaf[near]
    return list(dict.fromkeys(meant))[:_CANDIDATES]


def is_field(name: str) -> bool:
    """Whether a config may have this field, or a block of this name."""
    return any(fnmatchcase(name, field) or field.startswith(f"{name}.") for field in FIELDS)
