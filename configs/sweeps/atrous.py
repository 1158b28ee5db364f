"""VGG16 with and without the atrous fc6: the last row of Table 2, and section 3.1.

    python -m scripts.sweep --config=configs/sweeps/atrous.py --workdir=DIR

Without it pool5 halves, fc6 and fc7 keep all their parameters, and conv5_3 is a map as well. In the
paper the result is about the same and the network a fifth slower. Wants what
configs/ssd300_vgg16_voc.py wants.
Runs: 2 settings with two seeds, 120,000 steps each.
"""

from ml_collections import ConfigDict

from configs.sweeps import base


def get_config() -> ConfigDict:
    """The paper's main experiment."""
    return base.get_config("vgg")


def get_hyper(hyper):
    """Both networks."""
    return hyper.product([
        hyper.sweep("config.model.backbone.atrous", [True, False]),
        hyper.sweep("config.seed", [0, 1]),
    ])  # fmt: skip
