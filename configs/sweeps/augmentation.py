"""Parts of the augmentation: crops and zoom-out, with and without distorted colors.

    python -m scripts.sweep --config=configs/sweeps/augmentation.py[:BASE] --workdir=DIR

BASE is shapes, vgg, or a folder in PASCAL VOC layout (see base.py). Paper: Table 2, "more data
augmentation", and section 3.6 for zooming out. Its row "use atrous" is atrous.py.
Runs: 8 settings with two seeds.
"""

from ml_collections import ConfigDict

from configs.sweeps import base


def get_config(start: str = "shapes") -> ConfigDict:
    """The base as it is."""
    return base.get_config(start)


def get_hyper(hyper):
    """Every combination."""
    geometric = [("flip",), ("zoom_out", "flip"), ("iou_crop", "flip")]
    geometric.append(("zoom_out", "iou_crop", "flip"))
    colors = [(), ("brightness", "contrast", "saturation", "hue")]
    return hyper.product([
        hyper.sweep("config.augment.geometric", geometric),
        hyper.sweep("config.augment.photometric.operations", colors),
        hyper.sweep("config.seed", [0, 1]),
    ])  # fmt: skip
