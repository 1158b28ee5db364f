"""Random boxes."""

import numpy as np


def random_boxes(rng, count):
    corners = rng.uniform(size=(count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1) + 0.02], axis=1).astype(np.float32)
