"""SSD300 on ResNet-50 for COCO 2017, as in NVIDIA's DeepLearningExamples.

Source: `PyTorch/Detection/SSD` there: 65 epochs by the rules of presets.py. It scales the learning
rate with the batch.

    python -m ssd_jax.main --config=configs/ssd300_resnet50_coco.py

Hardware and hours: not measured here.
Score: NVIDIA reports 27.2 AP (val, from ImageNet weights). Not measured here.
"""

from ml_collections import ConfigDict

from configs import ssd300_vgg16_coco


def get_config() -> ConfigDict:
    """The COCO experiment by NVIDIA's rules, with another network and its pixels."""
    config = ssd300_vgg16_coco.get_config("nvidia")
    config.model.name = "resnet"
    config.model.backbone = ConfigDict({"depth": 50})
    config.model.mean = (123.675, 116.28, 103.53)
    config.model.std = (58.395, 57.12, 57.375)
    config.steps = 238_000
    return config
