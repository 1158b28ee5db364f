"""Train steps on a CPU against PyTorch's, and what matching, mining and loss cost of ours."""

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import jax
import optax
from jax import numpy as jnp
from ml_collections import ConfigDict

from configs import ssd300_mobilenet_v1_coco, ssd300_vgg16_voc
from scripts.benchmarks import ours, rivals, timing
from scripts.benchmarks.report import Row, compared, duration
from ssd_jax import losses, matching, step

VOC_CLASSES, COCO_CLASSES = 21, 81
_FLOP_TOLERANCE = 0.1  # XLA leaves out what is multiplied with padding


def vgg(rounds: int, quick: bool) -> Iterator[Row]:
    """SSD300-VGG16, two images."""
    config = ours.undistorted(ssd300_vgg16_voc.get_config(), 2)
    what = "train step, SSD300-VGG16, 21 classes, batch 2, float32"
    yield against(what, config, VOC_CLASSES, lambda _: rivals.ssd300(VOC_CLASSES), 0.7, rounds)


def mobilenet(rounds: int, quick: bool) -> Iterator[Row]:
    """MobileNets, four images."""
    config = ours.undistorted(ssd300_mobilenet_v1_coco.get_config(), 4)
    what = "train step, SSD300-MobileNetV1, 81 classes, batch 4, float32"
    yield against(what, config, COCO_CLASSES, _mobilenet_v1, 0.8, rounds)

    what = "train step, SSDLite320-MobileNetV3, 81 classes, batch 4, float32"
    name = "configs.ssdlite320_mobilenet_v3_coco"
    if importlib.util.find_spec(name) is None:
        yield Row(what, goal=(">=", 0.8), missing=f"there is no {name.replace('.', '/')}.py")
        return
    config = ours.undistorted(importlib.import_module(name).get_config(), 4)
    yield against(what, config, COCO_CLASSES, lambda _: _ssdlite(), 0.8, rounds)


def share(rounds: int, quick: bool) -> Iterator[Row]:
    """Matching, mining and loss in a VGG step: by difference, and alone."""
    config = ours.undistorted(ssd300_vgg16_voc.get_config(), 2)
    batch = ours.batch(config, VOC_CLASSES)
    full = ours.Training(config, VOC_CLASSES, batch)
    bare = ours.Training(config, VOC_CLASSES, batch, _bare_step)
    times = timing.alternate(full, bare, rounds)
    parts = [100 * (1 - bare / full) for full, bare in zip(times.ours, times.other)]
    step_seconds = statistics.median(times.ours)
    what = "matching, mining and loss, part of the SSD300-VGG16 step"
    yield Row(
        f"{what}: by difference to a step whose loss is the mean of the outputs",
        statistics.median(parts), "%", ("<=", 3), (min(parts), max(parts)),
        duration(step_seconds), duration(statistics.median(times.other)),
    )  # fmt: skip

    alone = _loss_alone(full.detector, batch)
    alone()
    seconds = statistics.median(timing.once(alone) for _ in range(5 * rounds))
    yield Row(
        f"{what}: compiled alone, with the gradient", 100 * seconds / step_seconds, "%", ("<=", 3),
        ours=duration(seconds), other=duration(step_seconds),
    )  # fmt: skip


def against(
    what: str, config: ConfigDict, classes: int, model: Callable, goal: float, rounds: int
) -> Row:
    """Our step of `config` against that of the PyTorch detector `model(our detector)`."""
    if reason := rivals.missing():
        return Row(what, goal=(">=", goal), missing=reason)
    batch = ours.batch(config, classes)
    mine = ours.Training(config, classes, batch)
    theirs = rivals.Training(model(mine.detector), batch)
    note = _equal_work(mine, theirs, config.image_size)
    times = timing.alternate(mine, theirs, rounds)
    return compared(what, times, goal, config.batch_size, note)


def _equal_work(mine: ours.Training, theirs: rivals.Training, size: tuple[int, int]) -> str:
    """Raises ValueError where the two sides differ in parameters or arithmetic."""
    if mine.parameters != theirs.parameters:
        raise ValueError(f"{mine.parameters} parameters against {theirs.parameters}")
    counts = ours.forward_gflop(mine.detector), rivals.forward_gflop(theirs.model, size)
    if abs(counts[0] / counts[1] - 1) > _FLOP_TOLERANCE:
        raise ValueError(f"{counts[0]:.2f} GFLOP an image forward against {counts[1]:.2f}")
    return f"{mine.parameters / 1e6:.2f} M parameters, {counts[1]:.2f} GFLOP an image forward"


def _mobilenet_v1(detector: step.Detector):
    from scripts.benchmarks import mobilenet_torch  # imports PyTorch

    return mobilenet_torch.ssd300(COCO_CLASSES, detector.priors)


def _ssdlite():
    import torch

    build = rivals.torchvision().models.detection.ssdlite320_mobilenet_v3_large
    model = build(weights=None, weights_backbone=None, num_classes=COCO_CLASSES)
    return model.to(memory_format=torch.channels_last)


def _bare_step(detector: step.Detector, state: step.State, batch: dict):
    """The train step with nothing between the network's outputs and the optimizer."""
    images = ours.normalized(detector, batch["image"])

    def mean_output(params):
        logits, offsets = detector.model.apply({"params": params}, images, train=True)
        return logits.mean() + offsets.mean()

    loss, gradient = jax.value_and_grad(mean_output)(state.params)
    updates, opt_state = detector.optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    norm = optax.tree.norm(gradient)  # the step reports it too
    return state.replace(params=params, opt_state=opt_state), {"loss": loss, "gradient_norm": norm}


def _loss_alone(detector: step.Detector, batch: dict) -> Callable:
    """A call that matches, mines and differentiates the loss of given outputs."""
    options, priors = detector.config.matching, jnp.asarray(detector.priors.boxes)
    match = partial(
        matching.match, priors=priors, threshold=options.threshold, matcher=options.matcher,
        variances=options.variances,
    )  # fmt: skip

    @jax.jit
    def gradient(outputs, boxes, labels):
        def total(outputs):
            targets = jax.vmap(match)(boxes, labels)
            loss = jax.vmap(losses.multibox)(*outputs, targets.labels, targets.offsets)
            return (loss.classification + loss.localization).sum()

        return jax.grad(total)(outputs)

    rows, count = len(batch["labels"]), len(priors)
    keys = jax.random.split(jax.random.key(0))
    outputs = (
        jax.random.normal(keys[0], (rows, count, VOC_CLASSES)),
        jax.random.normal(keys[1], (rows, count, 4)),
    )
    return lambda: jax.block_until_ready(gradient(outputs, batch["boxes"], batch["labels"]))
