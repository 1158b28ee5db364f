"""SSDLite on MobileNetV3-Large at 320 pixels for COCO 2017, from random weights.

Source: torchvision's `ssdlite320_mobilenet_v3_large` and the recipe of its detection references
(8 devices of 24 images, 660 epochs), by the rules of presets.py but for colors, which it leaves.

    python -m ssd_jax.main --config=configs/ssdlite320_mobilenet_v3_coco.py

Hardware and hours: not measured here.
Score: torchvision reports 21.3 AP (val). Not measured here.
"""

from ml_collections import ConfigDict

from configs import ssd300_vgg16_coco


def get_config() -> ConfigDict:
    """The COCO experiment with another network, its priors, and a longer, smoother schedule."""
    config = ssd300_vgg16_coco.get_config("torchvision")
    config.batch_size = 192
    config.image_size = (320, 320)
    config.augment.geometric = ("iou_crop", "flip")
    config.augment.photometric.operations = ()
    config.model.name = "mobilenet_v3"
    config.model.backbone = ConfigDict({"reduce_tail": True})
    config.model.head = "lite"
    config.model.mean = (127.5, 127.5, 127.5)
    config.model.std = (127.5, 127.5, 127.5)
    config.priors.sizes = (64.0, 112.0, 160.0, 208.0, 256.0, 304.0, 320.0)
    config.priors.aspect_ratios = ((2.0, 3.0),) * 6
    config.priors.strides = ()
    config.optim.learning_rate = 0.15
    config.optim.weight_decay = 4e-5
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 610  # the first epoch
    config.steps = 403_000
    config.postprocess.score_threshold = 0.001
    config.postprocess.iou_threshold = 0.55
    config.postprocess.top_k_per_class = 300
    config.postprocess.top_k = 300
    return config
