"""Sizes of priors: the smallest and largest scale of the formula, and that of the first level.

    python -m scripts.sweep --config=configs/sweeps/prior_scales.py[:BASE] --workdir=DIR

BASE is shapes, vgg, or a folder in PASCAL VOC layout (see base.py). Paper: equation 4, with s_min
.2, s_max .9, and conv4_3 at .1 (section 3.1).
Runs: 6 settings with two seeds, one scale at a time around the paper's.
"""

from ml_collections import ConfigDict

from configs.sweeps import base

_PAPER = {"s_min": 0.2, "s_max": 0.9, "first": 0.1}
_OTHERS = {"s_min": [0.15, 0.4], "s_max": [0.6], "first": [0.05, 0.15]}


def get_config(start: str = "shapes") -> ConfigDict:
    """The base as it is."""
    return base.get_config(start)


def get_hyper(hyper):
    """The paper's scales, and each of the others instead of one of them."""

    def scales(**others):
        return hyper.product([
            hyper.sweep(f"config.priors.formula.{name}", [value])
            for name, value in (_PAPER | others).items()
        ])  # fmt: skip

    changed = [scales(**{name: value}) for name, values in _OTHERS.items() for value in values]
    seeds = hyper.sweep("config.seed", [0, 1])
    return hyper.product([hyper.chainit([scales(), *changed]), seeds])
