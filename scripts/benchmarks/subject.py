"""The subject of the measurements: the package's own training step on one device."""

from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from ssd_jax.detector import Detector, abstract_variables, build_detector
from ssd_jax.runtime import devices
from ssd_jax.train_step import init_state, train_step

BOXES_PER_IMAGE = 8  # in synthetic batches


class Training:
    """A training step that is called again and again on one batch on the device."""

    def __init__(self, config: ConfigDict, classes: int, batch: dict, train_step=train_step):
        runner = devices.Jit(jax.local_devices()[:1])
        self._runner = runner
        self.detector = build_detector(config, classes, runner.axis_name)
        self.state = runner.replicate(init_state(self.detector))
        self.batch = runner.shard(batch)
        self._step = runner.compile(partial(train_step, self.detector))

    def __call__(self) -> dict:
        self.state, metrics = self._step(self.state, self.batch)
        return jax.block_until_ready(metrics)

    def start_step(self, batch: dict) -> dict:
        """Start a step on another batch; does not wait for it."""
        self.state, metrics = self._step(self.state, self._runner.shard(batch))
        return metrics

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.state.params))


def without_jitter(config: ConfigDict, batch_size: int) -> ConfigDict:
    """A config for `batch_size` images without color jitter: the baselines have none."""
    config = config.copy_and_resolve_references()
    config.batch_size = batch_size
    config.augment.photometric.operations = ()
    return config


def synthetic_batch(config: ConfigDict, classes: int, padded_to: int = 16) -> dict:
    """Random images, each with `BOXES_PER_IMAGE` random boxes, as the loader yields them."""
    rng = np.random.default_rng(0)
    size, rows = config.image_size, config.batch_size
    low = rng.uniform(0.0, 0.6, (rows, BOXES_PER_IMAGE, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (rows, BOXES_PER_IMAGE, 2))], axis=2)
    padding = ((0, 0), (0, padded_to - BOXES_PER_IMAGE))
    return {
        "image": rng.integers(0, 256, (rows, *size, 3), np.uint8),
        "boxes": np.pad(boxes.astype(np.float32), (*padding, (0, 0))),
        "labels": np.pad(
            rng.integers(1, classes, (rows, BOXES_PER_IMAGE)).astype(np.int32), padding
        ),
        "sample": np.arange(rows, dtype=np.int32),
    }


def forward_gflop(detector: Detector) -> float:
    """Multiplications and additions of a forward pass of one image, as XLA counts them."""
    shape = (1, *detector.config.image_size, 3)
    image = jax.ShapeDtypeStruct(shape, np.float32)
    apply = jax.jit(partial(detector.model.apply, train=False))
    return apply.lower(abstract_variables(detector), image).cost_analysis()["flops"] / 1e9
