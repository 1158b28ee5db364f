"""Shapes of priors: which aspect ratios, and whether a cell has the extra square.

    python -m scripts.sweep --config=configs/sweeps/aspect_ratios.py[:BASE] --workdir=DIR

BASE is shapes, vgg, or a folder in PASCAL VOC layout (see base.py). Paper: Table 2, "include
{1/2, 2} box" and "include {1/3, 3} box"; the extra square is of section 2.2.
Runs: 6 settings with two seeds.
"""

from ml_collections import ConfigDict

from configs import ssd300_vgg16_voc
from configs.sweeps import base


def get_config(start: str = "shapes") -> ConfigDict:
    """The base as it is."""
    return base.get_config(start)


def get_hyper(hyper):
    """Squares only, 2 and 1/2 too, or all that the paper has; with and without the extra square."""
    paper = ssd300_vgg16_voc.get_config().priors.aspect_ratios
    tables = [((),) * base.MAPS, ((2.0,),) * base.MAPS, paper]
    return hyper.product([
        hyper.sweep("config.priors.aspect_ratios", tables),
        hyper.sweep("config.priors.extra_square", ["none", "second"]),
        hyper.sweep("config.seed", [0, 1]),
    ])  # fmt: skip
