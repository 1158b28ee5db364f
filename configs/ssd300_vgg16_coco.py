"""SSD300 on VGG16 for COCO 2017.

Source: the authors' `ssd_coco.py`: smaller priors, longer training. Wants the annotations as
annotations/instances_{train,val}2017.json and the pictures in train2017/ and val2017/.

    python -m ssd_jax.main --config=configs/ssd300_vgg16_coco.py[:PRESET]

Hardware and hours: not measured here.
Score: the paper's 25.1 AP (test-dev) starts from ImageNet weights. Not measured here.
"""

from ml_collections import ConfigDict

from configs import presets, ssd300_vgg16_voc


def get_config(preset: str = "") -> ConfigDict:
    """SSD300 with COCO's data, priors and schedule."""
    config = ssd300_vgg16_voc.get_config()
    config.data.train = ("coco:train2017:annotations/instances_train2017.json",)
    config.data.test = ("coco:val2017:annotations/instances_val2017.json",)
    config.data.classes = ()  # the names in the annotation file, in its order
    config.priors.sizes = (21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0)
    config.priors.formula.update({"s_min": 0.15, "s_max": 0.9, "first": 0.07})
    config.steps = 400_000
    config.optim.lr_decay_fractions = (0.7, 0.9)
    config.eval_every = 20_000
    return presets.apply(config, preset)
