"""Own photographs: a folder with annotations, and a small network that a CPU can train.

    python -m ssd_jax.main --config=configs/voc_folder.py:PATH [--config.steps=2500]

PATH is a folder of PASCAL VOC, YOLO, COCO or CSV in one of the layouts of docs/data.md. Its test
set, or else its validation set, is scored; of PASCAL VOC without lists, every fifth photograph.
Photographs of other formats that nobody divided are divided by names (`data.split`).

Hardware and hours: 2 CPU cores, under half an hour for a few hundred photographs.
Score: mAP@.5 .90 on 72 test photographs of blood cells (docs/bccd.md), measured.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from configs import ssd300_vgg16_voc
from ssd_jax.errors import ConfigError

_NAME = "Or leave out the folder, and name two sets by --config.data.train and --config.data.test"


def get_config(folder: str = "PATH") -> ConfigDict:
    """SSD300's priors on the small network, trained from random weights."""
    config = ssd300_vgg16_voc.get_config()
    folder = os.path.expanduser(folder)
    config.batch_size = 16
    config.data.update(_data(folder))
    config.augment.zoom_out.max_ratio = 2.0
    config.model.name = "small"
    config.model.backbone = ConfigDict({"levels": 6})
    config.model.mean = (127.5, 127.5, 127.5)
    config.model.std = (64.0, 64.0, 64.0)
    config.priors.strides = ()
    config.matching.matcher = "best_prior"
    config.optim.learning_rate = 0.05
    config.optim.clip_norm = 4.0
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 100
    config.steps = 2500
    config.log_every = 25
    config.eval_every = 500
    config.save_every = 250
    return config


def _data(folder: str) -> dict[str, tuple[str, ...]]:
    """Sets to train and to test on, and class names; () takes those of the training set."""
    standard = (os.path.join(folder, name) for name in ("JPEGImages", "ImageSets"))
    if not os.path.isdir(folder) or any(map(os.path.isdir, standard)):
        train, test = _splits(folder)
        return _sets(f"voc:{folder}:{train}", f"voc:{folder}:{test}")
    from ssd_jax.data.recognize import recognize  # starts JAX, which other configs need not

    readings = recognize(folder)
    if len(readings) > 1:
        ways = [f"{each.summary}\n  {', '.join(each.specs.values())}" for each in readings]
        raise ConfigError("\n".join([f"{folder} can be read in {len(ways)} ways. {_NAME}", *ways]))
    (reading,) = readings
    if "all" not in reading.specs:
        test = reading.specs.get("test", reading.specs.get("val", ""))
        return _sets(reading.specs["train"], test, reading.classes)
    if reading.format == "voc":
        spec = reading.specs["all"]
        return _sets(f"{spec}trainval", f"{spec}test", reading.classes)
    sets = {"train": (reading.specs["all"],), "test": (), "classes": reading.classes}
    return sets | {"split": (0.7, 0.15, 0.15)}  # of photographs that nobody divided


def _sets(train: str, test: str, classes: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    return {"train": (train,), "test": (test,), "classes": classes}


def _splits(folder: str) -> tuple[str, str]:
    """The best pair of lists that share no photograph; "trainval" contains "val"."""
    lists = Path(folder) / "ImageSets" / "Main"
    pairs = (("trainval", "test"), ("train", "test"), ("train", "val"))
    complete = (pair for pair in pairs if all((lists / f"{name}.txt").exists() for name in pair))
    return next(complete, pairs[0])
