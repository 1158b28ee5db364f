"""Own photographs: a folder in PASCAL VOC layout, and a small network that a CPU can train.

    python -m ssd_jax.main --config=configs/voc_folder.py:PATH [--config.steps=2500]

PATH holds JPEGImages/, Annotations/ and ImageSets/Main/ with the lists trainval and test, train and
test, or train and val; without lists every fifth photograph becomes the test set. Classes are read
from the annotations.

Hardware and hours: 2 CPU cores, under half an hour for a few hundred photographs.
Score: mAP@.5 .90 on 72 test photographs of blood cells (docs/bccd.md), measured.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from configs import ssd300_vgg16_voc


def get_config(folder: str = "PATH") -> ConfigDict:
    """SSD300's priors on the small network, trained from random weights."""
    config = ssd300_vgg16_voc.get_config()
    folder = os.path.expanduser(folder)
    config.batch_size = 16
    train, test = _splits(folder)
    config.data.train = (f"voc:{folder}:{train}",)
    config.data.test = (f"voc:{folder}:{test}",)
    config.data.classes = ()
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


def _splits(folder: str) -> tuple[str, str]:
    """The best pair of lists that share no photograph; "trainval" contains "val"."""
    lists = Path(folder) / "ImageSets" / "Main"
    pairs = (("trainval", "test"), ("train", "test"), ("train", "val"))
    complete = (pair for pair in pairs if all((lists / f"{name}.txt").exists() for name in pair))
    return next(complete, pairs[0])
