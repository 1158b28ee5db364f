"""What is positive, and which negatives count: threshold, ratio and kind of mining.

    python -m scripts.sweep --config=configs/sweeps/matching.py[:BASE] --workdir=DIR

BASE is shapes, vgg, or a folder in PASCAL VOC layout (see base.py). Paper: section 2.2, IoU above
.5, and 3 negatives of highest loss to a positive.
Runs: 8 settings with two seeds; the paper's is the one with ratio 3 and hard negatives.
"""

from ml_collections import ConfigDict

from configs.sweeps import base


def get_config(start: str = "shapes") -> ConfigDict:
    """The base as it is."""
    return base.get_config(start)


def get_hyper(hyper):
    """Other thresholds alone, and every combination of ratio and mining."""
    return hyper.product([
        hyper.chainit([
            hyper.sweep("config.matching.threshold", [0.35, 0.65]),
            hyper.product([
                hyper.sweep("config.loss.negative_ratio", [1.0, 3.0, 10.0]),
                hyper.sweep("config.loss.negatives", ["hard", "random"]),
            ]),
        ]),
        hyper.sweep("config.seed", [0, 1]),
    ])  # fmt: skip
