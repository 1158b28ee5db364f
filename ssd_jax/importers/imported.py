"""What every importer returns, and what all of them check."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.errors import CheckpointError

# The columns after the background's of detectors that keep COCO's own numbers (TensorFlow's and
# torchvision's); COCO never published boxes of the classes named "unused".
COCO_CLASSES = (
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


class Imported(NamedTuple):
    """Weights of a file by our names: "backbone/conv1_1/kernel" -> float32 array in our layout."""

    params: dict[str, np.ndarray]
    batch_stats: dict[str, np.ndarray]
    classes: tuple[str, ...] = ()  # () where the file does not say
    priors: np.ndarray | None = None  # corners, normalized [A, 4], where the file has its own
    left: dict[str, str] = {}  # tensor of the file that is not used -> why


def check_pixels(config: ConfigDict, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise CheckpointError when the weights were trained on other pixels than `config.model`'s."""
    have = tuple(config.model.mean), tuple(config.model.std)
    if have != (mean, std):
        raise CheckpointError(
            f"these weights expect config.model.mean={mean} and config.model.std={std}, not "
            f"{have[0]} and {have[1]}: start from the config that is theirs"
        )
