"""Images to detections on a CPU, and postprocessing alone, against torchvision."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from jax import numpy as jnp

from configs import ssd300_vgg16_voc
from scripts.benchmarks import baselines, timing
from scripts.benchmarks.report import Row, comparison_row
from ssd_jax.data import augment
from ssd_jax.detector import Detector, build_detector, init_variables, predict
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.multibox import postprocess
from ssd_jax.types import Detections

CLASSES = 21
_IMAGE_SIZE = (375, 500)  # (H, W) of most VOC images
_CANDIDATES = 5000  # scores of an image above the threshold, as many as of a trained detector


def end_to_end(rounds: int, quick: bool) -> Iterator[Row]:
    """uint8 images to detections in memory, SSD300-VGG16 with the same weights."""
    for count in (1,) if quick else (1, 2):
        what = f"image to detections, SSD300-VGG16, 21 classes, batch {count}, float32"
        if reason := baselines.missing(nms=True):
            yield Row(what, goal=(">=", 0.85), missing=reason)
            continue
        images = np.random.default_rng(0).integers(0, 256, (count, *_IMAGE_SIZE, 3), np.uint8)
        model = _calibrated(baselines.ssd300(CLASSES), images)
        ours, baseline = _our_detections(model, images), _baseline_detections(model, images)
        for scores, other in zip(ours().scores, baseline()):
            # The two resamplers differ a little, and so do the scores.
            difference = np.abs(scores[: len(other["scores"])] - other["scores"].numpy()).max()
            if (scores > 0).sum() != len(other["scores"]) or difference > 0.05:
                raise ValueError(f"the scores of the two sides differ by {difference:.2f}")
        times = timing.alternate(ours, baseline, rounds)
        yield comparison_row(what, times, 0.85, count, baselines.nms_note())


def postprocessing(rounds: int, quick: bool) -> Iterator[Row]:
    """The same outputs to detections: decoding, score threshold, NMS, top k."""
    for classes in (21, 81):
        what = f"postprocessing, {classes} classes, 8732 priors, batch 1"
        if reason := baselines.missing(nms=True):
            yield Row(what, goal=(">=", 1.3), missing=reason)
            continue
        ours, baseline = postprocessing_calls(classes, 1)
        notes = [compare_detections(ours(), baseline()), baselines.nms_note()]
        note = ", ".join(filter(None, notes))
        times = timing.alternate(ours, baseline, rounds, min_seconds=0.2)
        yield comparison_row(what, times, 1.3, note=note)


def compiled_postprocessing(classes: int, batch: int):
    """The compiled function of the subject, and random outputs on the device to call it with."""
    config, priors = ssd300_vgg16_voc.get_config(), _detector().priors.boxes
    detect = partial(
        postprocess.detect, priors=jnp.asarray(priors), variances=config.matching.variances,
        **config.postprocess,
    )  # fmt: skip
    return jax.jit(detect), jax.device_put(_outputs(classes, batch, priors))


def postprocessing_calls(classes: int, batch: int, device: str = "cpu"):
    """Calls of both postprocessings on the same outputs; the baseline on PyTorch's `device`."""
    import torch

    detect, arguments = compiled_postprocessing(classes, batch)
    logits, offsets = (torch.tensor(np.asarray(each), device=device) for each in arguments)
    heads = {"cls_logits": logits, "bbox_regression": offsets}
    anchors = [torch.tensor(_detector().priors.boxes * 300, device=device)] * batch
    model = baselines.ssd300(classes).eval()

    def baseline() -> list[dict]:
        with torch.no_grad():
            detections = model.postprocess_detections(heads, anchors, [(300, 300)] * batch)
            return [{name: value.cpu() for name, value in each.items()} for each in detections]

    return lambda: jax.tree.map(np.asarray, detect(*arguments)), baseline


def compare_detections(ours: Detections, baseline: list[dict]) -> str:
    """How many detections have the same class, score and box on both sides.

    Raises ValueError when more than one in a hundred has not. A few may differ: rounding decides
    where an IoU equals the threshold.
    """
    total = different = 0
    for i, other in enumerate(baseline):
        kept = ours.labels[i] > 0
        rows = np.column_stack([ours.labels[i], ours.scores[i], ours.boxes[i]])[kept]
        columns = [other["labels"], other["scores"], other["boxes"] / 300]
        other_rows = np.column_stack([column.numpy() for column in columns])
        difference = np.abs(rows[:, None] - other_rows[None]).max(axis=2)  # [ours, baseline]
        total += len(rows)
        different += (difference > 1e-4).all(axis=1).sum() + abs(len(rows) - len(other_rows))
    if different > 0.01 * total:
        raise ValueError(f"{different} of {total} detections differ from the baseline's")
    return f"{total} detections, " + (f"all but {different} the same" if different else "the same")


def _outputs(classes: int, batch: int, priors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Random logits [B, A, C] with `_CANDIDATES` scores an image above .01, and offsets."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 1.5, (batch, len(priors), classes)).astype(np.float32)
    logits[..., 0] += _background_shift(logits[0])
    # torchvision clips before suppression and this package after it, so boxes lie inside.
    jitter = rng.normal(0.0, 0.5, (batch, *priors.shape)).astype(np.float32)
    inside = np.clip(box_ops.decode(jitter, priors), 0.0, 1.0)
    return logits, box_ops.encode(inside, priors).astype(np.float32)


def _background_shift(logits: np.ndarray) -> float:
    """What to add to the background logits so that `_CANDIDATES` scores are above .01."""
    low, high = 0.0, 30.0
    for _ in range(30):
        middle = (low + high) / 2
        shifted = logits.astype(np.float64)
        shifted[:, 0] += middle
        shifted = np.exp(shifted - shifted.max(1, keepdims=True))
        passing = (shifted[:, 1:] > 0.01 * shifted.sum(1, keepdims=True)).sum()
        low, high = (middle, high) if passing > _CANDIDATES else (low, middle)
    return high


def _detector() -> Detector:
    return build_detector(ssd300_vgg16_voc.get_config(), CLASSES)


def _our_detections(model, images: np.ndarray):
    detector = _detector()
    variables = init_variables(detector)
    params = baselines.to_flax_params(model, variables["params"])
    variables["params"] = jax.tree.map(
        lambda own, given: jnp.asarray(given.reshape(own.shape)), variables["params"], params
    )
    compiled_predict = jax.jit(partial(predict, detector))
    config = detector.config

    def call() -> Detections:
        resized = [
            augment.resize({"image": image}, config.image_size, config.model.mean)["image"]
            for image in images
        ]
        return jax.tree.map(np.asarray, compiled_predict(variables, np.stack(resized)))

    return call


def _baseline_detections(model, images: np.ndarray):
    import torch

    tensors = torch.from_numpy(images)

    def call() -> list[dict]:
        with torch.no_grad():
            return model(list(tensors.permute(0, 3, 1, 2).float() / 255))

    return call


def _calibrated(model, images: np.ndarray):
    """The random model with its heads scaled to give as many detections as a trained one."""
    import torch

    model.eval()
    tensors = list(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    logit_layers = model.head.classification_head.module_list
    offset_layers = model.head.regression_head.module_list
    with torch.no_grad():
        maps = list(model.backbone(model.transform(tensors)[0].tensors).values())
        for layers, std in ((logit_layers, 1.5), (offset_layers, 0.5)):
            for layer, x in zip(layers, maps):
                layer.weight *= std / layer(x).std()
        logits = model.head(maps)["cls_logits"][0].numpy()
        shift = _background_shift(logits)
        for layer in logit_layers:
            layer.bias.view(-1, CLASSES)[:, 0] += shift
    return model
