"""How long to train: epochs by the number of photographs, from runs that were measured."""

import math
from typing import NamedTuple

BATCH_SIZE = 16  # of the measured runs
MAX_EVALUATIONS = 25
# Evaluations; where there are many, half of them: the small rates at the end often help.
MIN_PATIENCE = 5


class MeasuredLength(NamedTuple):
    """A length that was measured, and its bounds for fewer and for more photographs."""

    steps: int
    photographs: int
    min_steps: int
    min_epochs: int
    warmup_part: int  # steps for each one of warm-up
    page: str


# Of 160 to 292 photographs; after half of the steps raccoons were found as well.
FINE_TUNING = MeasuredLength(200, 200, 100, 4, 10, "docs/finetuning.md")
FROM_RANDOM = MeasuredLength(2500, 300, 1000, 30, 25, "docs/bccd.md")


def choose_epochs(photographs: int, measured: MeasuredLength) -> int:
    """Epochs for a training set, in batches of `BATCH_SIZE`.

    Steps grow with the square root of the number of photographs: with a quarter of them each is
    seen twice as often. That lies between the same steps, which would repeat a few photographs
    thousands of times, and the same epochs, which would be too few steps for them.
    """
    count = max(photographs, 1)
    steps = measured.steps * math.sqrt(count / measured.photographs)
    epochs = math.ceil(max(steps, measured.min_steps) * BATCH_SIZE / count)
    return max(epochs, measured.min_epochs)
