"""SSD300 on ResNet-50 for COCO 2017, as in NVIDIA's DeepLearningExamples.

Source: `PyTorch/Detection/SSD` there: 65 epochs, one attempt a crop, no zoom-out and no hue. It
scales the learning rate with the batch. Its brightness is a factor, here it is added.

    python -m ssd_jax.main --config=configs/ssd300_resnet50_coco.py

Hardware and hours: not measured here.
Score: NVIDIA reports 27.2 AP (val, from ImageNet weights). Not measured here.
"""

from ml_collections import ConfigDict

from configs import ssd300_vgg16_coco


def get_config() -> ConfigDict:
    """The COCO experiment with another network, its pixels, and a loss divided per image."""
    config = ssd300_vgg16_coco.get_config()
    config.augment.geometric = ("iou_crop", "flip")
    config.augment.iou_crop.trials = 1
    config.augment.photometric.operations = ("brightness", "contrast", "saturation")
    config.augment.photometric.probability = 1.0
    config.model.name = "resnet"
    config.model.backbone = ConfigDict({"depth": 50})
    config.model.mean = (123.675, 116.28, 103.53)
    config.model.std = (58.395, 57.12, 57.375)
    config.priors.clip = "center_size"
    config.matching.matcher = "best_prior"
    config.loss.normalizer = "image"
    config.optim.learning_rate = 2.6e-3
    config.optim.warmup_steps = 300
    config.optim.decay_at = (43 / 65, 54 / 65)
    config.steps = 238_000
    config.postprocess.score_threshold = 0.05
    config.postprocess.iou_threshold = 0.5
    config.postprocess.top_k_per_class = 200
    return config
