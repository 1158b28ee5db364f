"""Our side of the comparisons: the package's own step and prediction on one device."""

from functools import partial

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict

from ssd_jax import parallel, photometric, step

TRUTHS = 8  # boxes an image of the synthetic batches


class Training:
    """A train step called again and again on one batch that lies on the device."""

    def __init__(self, config: ConfigDict, classes: int, batch: dict, train_step=step.train_step):
        runner = parallel.Jit(jax.local_devices()[:1])
        self._runner = runner
        self.detector = step.build(config, classes, runner.axis_name)
        self.state = runner.replicate(step.create_state(self.detector))
        self.batch = runner.shard(batch)
        self._step = runner.compile(partial(train_step, self.detector))

    def __call__(self) -> dict:
        self.state, metrics = self._step(self.state, self.batch)
        return jax.block_until_ready(metrics)

    def start(self, batch: dict) -> dict:
        """A step on another batch, which is not waited for."""
        self.state, metrics = self._step(self.state, self._runner.shard(batch))
        return metrics

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.state.params))


def undistorted(config: ConfigDict, batch_size: int) -> ConfigDict:
    """A config for `batch_size` images without color distortion: the other side has none."""
    config = config.copy_and_resolve_references()
    config.batch_size = batch_size
    config.augment.photometric.operations = ()
    return config


def batch(config: ConfigDict, classes: int, padded_to: int = 16) -> dict:
    """Random images, each with `TRUTHS` random boxes, as the loader would yield them."""
    rng = np.random.default_rng(0)
    size, rows = config.image_size, config.batch_size
    low = rng.uniform(0.0, 0.6, (rows, TRUTHS, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (rows, TRUTHS, 2))], axis=2)
    padding = ((0, 0), (0, padded_to - TRUTHS))
    return {
        "image": rng.integers(0, 256, (rows, *size, 3), np.uint8),
        "boxes": np.pad(boxes.astype(np.float32), (*padding, (0, 0))),
        "labels": np.pad(rng.integers(1, classes, (rows, TRUTHS)).astype(np.int32), padding),
        "sample": np.arange(rows, dtype=np.int32),
    }


def normalized(detector: step.Detector, images: jax.Array) -> jax.Array:
    """uint8 images as the network takes them."""
    config = detector.config.model
    return photometric.normalize(images, config.mean, config.std, jnp.dtype(config.dtype))


def forward_gflop(detector: step.Detector) -> float:
    """Multiplications and additions of one image through the network, by XLA's own count."""
    shape = (1, *detector.config.image_size, 3)
    image = jax.ShapeDtypeStruct(shape, np.float32)
    variables = step.variables(step.abstract_state(detector))
    apply = jax.jit(partial(detector.model.apply, train=False))
    return apply.lower(variables, image).cost_analysis()["flops"] / 1e9
