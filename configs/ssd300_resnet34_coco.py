"""SSD300 on ResNet-34 for COCO 2017: the network that MLPerf timed from v0.5 to v1.1.

Source: the reference of mlcommons/training, `single_stage_detector/ssd`: 70 epochs at most, decay
on all parameters. It scales the learning rate with the batch.

    python -m ssd_jax.main --config=configs/ssd300_resnet34_coco.py

Hardware and hours: not measured here.
Score: MLPerf's target is 23.0 AP (val, from ImageNet weights). Not measured here.
"""

from ml_collections import ConfigDict

from configs import ssd300_resnet50_coco


def get_config() -> ConfigDict:
    """The ResNet-50 experiment with the shallower network and MLPerf's schedule."""
    config = ssd300_resnet50_coco.get_config()
    config.augment.photometric.hue = 0.05
    config.model.backbone.depth = 34
    config.optim.learning_rate = 2.5e-3
    config.optim.weight_decay_params = ("*",)
    config.optim.lr_decay_fractions = (40 / 70, 50 / 70)
    config.steps = 256_000
    return config
