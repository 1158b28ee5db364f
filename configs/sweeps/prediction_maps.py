"""Number of maps that detections come from, the coarse ones left out one by one: Table 3.

    python -m scripts.sweep --config=configs/sweeps/prediction_maps.py[:BASE] --workdir=DIR

BASE is shapes, vgg, or a folder in PASCAL VOC layout (see base.py). As in the paper the number of
priors stays about the same: the scales spread over the maps that are left, and where few are left
the last one gets more aspect ratios. The paper's last row, the second map alone, is not here.
Runs: 5 settings with two seeds.
"""

from ml_collections import ConfigDict

from configs.sweeps import base

_TWO, _THREE, _FOUR = (2.0,), (2.0, 3.0), (2.0, 3.0, 4.0)
_RATIOS = {
    6: (_TWO, _THREE, _THREE, _THREE, _TWO, _TWO),  # 8732 priors of VGG, 2424 at 160 pixels
    5: (_TWO, _THREE, _THREE, _THREE, _TWO),  # 8728, 2420
    4: (_TWO, _THREE, _THREE, _THREE),  # 8692, 2404
    3: (_TWO, _THREE, _FOUR),  # 8742, 2400
    2: (_TWO, _FOUR),  # 8664, 2400
}


def get_config(start: str = "shapes") -> ConfigDict:
    """The base as it is."""
    return base.get_config(start)


def get_hyper(hyper):
    """A number of maps with its table of aspect ratios."""
    return hyper.product([
        hyper.zipit([
            hyper.sweep("config.model.backbone.levels", _RATIOS),
            hyper.sweep("config.priors.aspect_ratios", _RATIOS.values()),
        ]),
        hyper.sweep("config.seed", [0, 1]),
    ])  # fmt: skip
