"""Your photographs, starting from a detector that was trained on COCO.

    python -m scripts.import_weights --source=detect.tflite --format=tflite \
        --config=configs/ssd300_mobilenet_v1_tflite.py --workdir=runs/coco
    python -m ssd_jax.main --config=configs/finetune.py:PATH --workdir=runs/mine

PATH is a folder as for voc_folder.py; other sets by `--config.data.train` and `--config.data.test`.
The first command makes the run that this one starts from, `--config.init.source=runs/coco`.

Hardware and hours: 2 CPU cores, a quarter of an hour.
Score: test AP@.5 beside that of random weights, in docs/finetuning.md, measured.
"""

from ml_collections import ConfigDict

from configs import ssd300_mobilenet_v1_tflite, voc_folder


def get_config(folder: str = "PATH") -> ConfigDict:
    """The imported network and its priors, trained for a short time at a low rate."""
    config = ssd300_mobilenet_v1_tflite.get_config()
    config.batch_size = 16
    config.data = voc_folder.get_config(folder).data
    config.init.source = "runs/coco"
    config.optim.learning_rate = 0.01
    config.optim.clip_norm = 4.0
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 50
    config.steps = 300
    config.log_every = 10
    config.eval_every = 100
    config.save_every = 100
    return config
