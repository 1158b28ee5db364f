"""SSD300 on MobileNetV1 of width 0.75, as TensorFlow Lite's released COCO detector has it.

Source: `coco_ssd_mobilenet_v1_1.0_quant_2018_06_29`, 90 class columns with the gaps of COCO's
numbering and sigmoid scores. For predictions and as a start of fine-tuning:

    python -m ssd_jax.predict --weights=tflite:coco_ssd_mobilenet_v1 --input=PICTURES

    python -m ssd_jax.main --config=configs/ssd300_mobilenet_v1_tflite.py

Hardware and hours: none, the weights are imported.
Score: not measured on COCO; equal to the released file's own detections (docs/weights.md).
"""

from ml_collections import ConfigDict

from configs import ssd300_mobilenet_v1_coco
from ssd_jax.weights.coco_classes import COCO_CLASSES


def get_config() -> ConfigDict:
    """TensorFlow's MobileNet detector, thinner, with sigmoid scores and the file's classes."""
    config = ssd300_mobilenet_v1_coco.get_config()
    config.data.classes = COCO_CLASSES
    config.model.backbone.width = 0.75
    config.loss.classification = "sigmoid_classes"  # the file's background column stays at 0
    # The file's norms are folded away: statistics of a batch would undo that. Their biases train.
    config.optim.frozen = ("*_BatchNorm/scale",)
    return config
