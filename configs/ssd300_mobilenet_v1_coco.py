"""SSD300 on MobileNetV1 for COCO 2017, laid out as in TensorFlow's object detection API.

Source: `ssd_mobilenet_v1_coco` of that API for the network and its priors. Trained here with
SGD and a softmax; the original uses RMSProp and sigmoids.

    python -m ssd_jax.main --config=configs/ssd300_mobilenet_v1_coco.py

Hardware and hours: not measured here.
Score: the API reports 21 AP (val, from ImageNet weights). Not measured here.
"""

from ml_collections import ConfigDict

from configs import ssd300_vgg16_coco


def get_config() -> ConfigDict:
    """The COCO experiment with another network, its pixels and its priors."""
    config = ssd300_vgg16_coco.get_config()
    config.model.name = "mobilenet_v1"
    config.model.backbone = ConfigDict({"width": 1.0, "norm_momentum": 0.9997})
    config.model.head_kernel = 1
    config.model.mean = (127.5, 127.5, 127.5)
    config.model.std = (127.5, 127.5, 127.5)
    config.priors.sizes = (60.0, 105.0, 150.0, 195.0, 240.0, 285.0, 300.0)
    config.priors.aspect_ratios = ((2.0,), *((2.0, 3.0),) * 5)
    config.priors.extra_square = "last"
    config.priors.first_level = (
        (30.0, 30.0),
        (60 * 2**0.5, 60 / 2**0.5),
        (60 / 2**0.5, 60 * 2**0.5),
    )
    config.priors.strides = ()
    config.matching.matcher = "best_prior"
    config.postprocess.iou_threshold = 0.6
    config.postprocess.top_k = 100
    return config
