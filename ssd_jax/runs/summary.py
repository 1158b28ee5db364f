"""What training prints about a run before its first step."""

from pathlib import Path

import jax

from ssd_jax.data.sets import Sets
from ssd_jax.detector import Detector
from ssd_jax.runs.checkpoint import MAX_CHECKPOINTS
from ssd_jax.runtime import devices
from ssd_jax.train_step import TrainState
from ssd_jax.types import PLAIN

_FEW_BOXES = 50  # one more that is found is .02 of recall


def format_summary(folder: Path, detector: Detector, state: TrainState, sets: Sets) -> str:
    """Folder and steps, devices, model, size of checkpoints, the sets, and which one chooses."""
    config, step = detector.config, int(state.step)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    megabytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e6
    start = "resumed at" if step else "from"
    return (
        f"run        {folder} ({start} step {step} of {config.steps})\n"
        f"devices    {devices.describe_devices(config.batch_size)}, {config.parallel}\n"
        f"model      {config.model.name}, {parameters / 1e6:.2f} M parameters, "
        f"{len(detector.priors.boxes)} priors\n"
        f"checkpoint {megabytes:.1f} MB, {MAX_CHECKPOINTS * megabytes:.1f} MB for the "
        f"{MAX_CHECKPOINTS} that are kept\n"
        + "".join(f"{name:10s} {source.summary()}\n" for name, source in sets.by_name.items())
        + f"best       chosen by {_describe_choice(sets)}"
    )


def _describe_choice(sets: Sets) -> str:
    boxes = sum(int((image.flags == PLAIN).sum()) for image in sets.choosing.images)
    return _name_choice(sets) + (
        f". It has only {boxes} boxes, so that chance chooses too: compare with --checkpoint=latest"
        if sets.choosing.images and boxes < _FEW_BOXES
        else ""
    )


def _name_choice(sets: Sets) -> str:
    if sets.val is None:
        return (
            "the test set, so that its score is optimistic: there is no validation set "
            "(config.data.val)"
        )
    result = "its score is the result" if sets.test is None else "the test set is scored in the end"
    return f"the validation set; {result}"
