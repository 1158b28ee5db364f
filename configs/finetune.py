"""Your photographs, starting from a detector that was trained on COCO.

    python -m ssd_jax.main --config=configs/finetune.py:PATH --workdir=runs/mine

PATH is a folder as for voc_folder.py; other sets by `--config.data.train` and `--config.data.test`.
The detector, 4 MB, is downloaded at the first use; without a network see docs/weights.md.

Where the source detects all classes already, it is scored before the first step, and the learning
rate is a twentieth: less is forgotten.

Hardware and hours: one CPU core, 4 minutes.
Score: test AP@.5 beside that of the untouched detector, in docs/finetuning.md, measured.
"""

from ml_collections import ConfigDict

from configs import ssd300_mobilenet_v1_tflite, voc_folder


def get_config(folder: str = "PATH") -> ConfigDict:
    """The COCO detector and its priors, trained for a short time."""
    config = ssd300_mobilenet_v1_tflite.get_config()
    config.batch_size = 16
    config.data = voc_folder.get_config(folder).data
    config.augment.geometric = ("iou_crop", "flip")  # its maps are too coarse for zoom-out
    config.init.source = "tflite:coco_ssd_mobilenet_v1"
    config.init.lr_multiplier = 0.05
    # The file was trained so: hard negatives would push down what it rightly believes.
    config.loss.classification = "focal"
    config.loss.focal.alpha = 0.75
    config.loss.negatives = "all"
    # The first layers are general, and their gradients take most of the time.
    config.optim.frozen = (*config.optim.frozen, "backbone/Conv2d_[0-5][/_]*")
    config.optim.learning_rate = 0.02
    config.optim.clip_norm = 4.0
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 20
    config.optim.ema_decay = 0.995
    config.steps = 200
    config.log_every = 10
    config.eval_every = 100
    config.save_every = 100
    return config
