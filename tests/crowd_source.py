"""A source without files."""

import numpy as np

from ssd_jax.types import DIFFICULT, PLAIN


class Crowd:
    """Two boxes, one of them difficult, on a gray image."""

    classes, max_boxes, fingerprint = ("a",), 2, "crowd"
    images = ()

    def name(self, index):
        return f"crowd/{index}"

    def ground_truth(self, index):
        return {name: self[index][name] for name in ("boxes", "labels", "flags")}

    def summary(self):
        return "crowds"

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return {
            "image": np.full((40, 40, 3), 128, np.uint8),
            "boxes": np.float32([[0.1, 0.1, 0.5, 0.5], [0.4, 0.4, 0.9, 0.9]]),
            "labels": np.int32([1, 1]),
            "flags": np.array([PLAIN, DIFFICULT]),
            "image_id": index,
            "size": (40, 40),
        }
