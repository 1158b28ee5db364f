"""SSD300 on MobileNetV1 of width 0.75, as TensorFlow Lite's released COCO detector has it.

Source: `coco_ssd_mobilenet_v1_1.0_quant_2018_06_29`, 90 class columns with the gaps of COCO's
numbering and sigmoid scores. For predictions and as a start of fine-tuning:

    python scripts/import_weights.py --source=detect.tflite --format=tflite \
        --config=configs/ssd300_mobilenet_v1_tflite.py --workdir=runs/coco
    python -m ssd_jax.predict --workdir=runs/coco --input=PICTURES --output=found

    python -m ssd_jax.main --config=configs/ssd300_mobilenet_v1_tflite.py

Hardware and hours: none, the weights are imported.
Score: not measured on COCO; equal to the released file's own detections (docs/weights.md).
"""

from ml_collections import ConfigDict

from configs import ssd300_mobilenet_v1_coco

# In the order of the columns; COCO never published boxes of the classes named "unused".
CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "unused 12", "stop sign", "parking meter", "bench", "bird",
    "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "unused 26",
    "backpack", "umbrella", "unused 29", "unused 30", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
    "surfboard", "tennis racket", "bottle", "unused 45", "wine glass", "cup", "fork", "knife",
    "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog",
    "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "unused 66",
    "dining table", "unused 68", "unused 69", "toilet", "unused 71", "tv", "laptop", "mouse",
    "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "unused 83", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


def get_config() -> ConfigDict:
    """TensorFlow's MobileNet detector, thinner, with sigmoid scores and the file's classes."""
    config = ssd300_mobilenet_v1_coco.get_config()
    config.data.classes = CLASSES
    config.model.backbone.width = 0.75
    config.loss.classification = "sigmoid"
    # The file's norms are folded away: statistics of a batch would undo that. Their biases train.
    config.optim.frozen = ("*_BatchNorm/scale",)
    return config
