"""SSD512 on VGG16 for PASCAL VOC 07+12.

Source: the paper's section 3.1; sizes cut to integers as the authors' prior layer does.

    python -m ssd_jax.main --config=configs/ssd512_vgg16_voc.py[:PRESET]

Hardware and hours: not measured here.
Score: the paper's 79.8 mAP on VOC2007 test starts from ImageNet weights. Not measured here.
"""

from ml_collections import ConfigDict

from configs import presets, ssd300_vgg16_voc


def get_config(preset: str = "") -> ConfigDict:
    """SSD300 with a larger input, one map more, and its priors."""
    config = ssd300_vgg16_voc.get_config()
    config.image_size = (512, 512)
    config.model.backbone.input_size = 512
    config.priors.sizes = (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6)
    config.priors.floor_sizes = True
    config.priors.formula.update({"s_min": 0.15, "s_max": 0.9, "first": 0.07})
    config.priors.aspect_ratios = ((2.0,), *((2.0, 3.0),) * 4, (2.0,), (2.0,))
    config.priors.strides = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
    return presets.apply(config, preset)
