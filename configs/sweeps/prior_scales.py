"""Sizes of priors: the smallest and largest scale of the formula, and that of the first level.

    python scripts/sweep.py --config=configs/sweeps/prior_scales.py[:BASE] --workdir=DIR

BASE is shapes, vgg, or a folder in PASCAL VOC layout (see base.py). Paper: equation 4, with s_min
.2, s_max .9, and conv4_3 at .1 (section 3.1).
Runs: 12 settings with two seeds.
"""

from ml_collections import ConfigDict

from configs.sweeps import base


def get_config(start: str = "shapes") -> ConfigDict:
    """The base as it is."""
    return base.get_config(start)


def get_hyper(hyper):
    """Every combination."""
    return hyper.product([
        hyper.sweep("config.priors.formula.s_min", [0.15, 0.2, 0.3]),
        hyper.sweep("config.priors.formula.s_max", [0.6, 0.9]),
        hyper.sweep("config.priors.formula.first", [0.05, 0.1]),
        hyper.sweep("config.seed", [0, 1]),
    ])  # fmt: skip
