"""From an image to detections on a CPU, and the postprocessing alone, against torchvision."""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from jax import numpy as jnp

from configs import ssd300_vgg16_voc
from scripts.benchmarks import rivals, timing
from scripts.benchmarks.report import Row, compared
from ssd_jax import augment, boxes, postprocess, step

CLASSES = 21
_PHOTO = (375, 500)  # the size of most VOC photographs
_CANDIDATES = 5000  # scores above the threshold, all classes together: as of a trained detector


def end_to_end(rounds: int, quick: bool) -> Iterator[Row]:
    """uint8 photographs to detections in memory, SSD300-VGG16 with the same weights."""
    for count in (1,) if quick else (1, 2):
        what = f"photograph to detections, SSD300-VGG16, 21 classes, batch {count}, float32"
        if reason := rivals.missing(nms=True):
            yield Row(what, goal=(">=", 0.85), missing=reason)
            continue
        images = np.random.default_rng(0).integers(0, 256, (count, *_PHOTO, 3), np.uint8)
        model = _calibrated(rivals.ssd300(CLASSES), images)
        mine, theirs = _our_detections(model, images), _their_detections(model, images)
        for own, other in zip(mine().scores, theirs()):
            # The two resamplers differ a little, and so do the scores.
            apart = np.abs(own[: len(other["scores"])] - other["scores"].numpy()).max()
            if (own > 0).sum() != len(other["scores"]) or apart > 0.05:
                raise ValueError(f"the scores of the two sides differ by {apart:.2f}")
        times = timing.alternate(mine, theirs, rounds)
        yield compared(what, times, 0.85, count, rivals.nms_note())


def postprocessing(rounds: int, quick: bool) -> Iterator[Row]:
    """The same outputs to detections: decode, filter, suppress, keep the best."""
    for classes in (21, 81):
        what = f"postprocessing, {classes} classes, 8732 priors, batch 1"
        if reason := rivals.missing(nms=True):
            yield Row(what, goal=(">=", 1.3), missing=reason)
            continue
        mine, theirs = sides(classes, 1)
        note = ", ".join(filter(None, [same_detections(mine(), theirs()), rivals.nms_note()]))
        times = timing.alternate(mine, theirs, rounds, at_least=0.2)
        yield compared(what, times, 1.3, note=note)


def our_postprocessing(classes: int, batch: int):
    """The compiled function, and random outputs on the device to call it with."""
    config, priors = ssd300_vgg16_voc.get_config(), _detector().priors.boxes
    detect = partial(
        postprocess.detect, priors=jnp.asarray(priors), variances=config.matching.variances,
        **config.postprocess,
    )  # fmt: skip
    return jax.jit(jax.vmap(detect)), jax.device_put(_outputs(classes, batch, priors))


def sides(classes: int, batch: int, device: str = "cpu"):
    """Calls of both postprocessings on the same outputs; theirs on PyTorch's `device`."""
    import torch

    detect, arguments = our_postprocessing(classes, batch)
    logits, offsets = (torch.tensor(np.asarray(each), device=device) for each in arguments)
    heads = {"cls_logits": logits, "bbox_regression": offsets}
    anchors = [torch.tensor(_detector().priors.boxes * 300, device=device)] * batch
    model = rivals.ssd300(classes).eval()

    def theirs() -> list[dict]:
        with torch.no_grad():
            found = model.postprocess_detections(heads, anchors, [(300, 300)] * batch)
            return [{name: value.cpu() for name, value in each.items()} for each in found]

    return lambda: jax.tree.map(np.asarray, detect(*arguments)), theirs


def same_detections(mine: postprocess.Detections, theirs: list[dict]) -> str:
    """How many detections have a partner of the same class, score and box on the other side.

    Raises ValueError when more than one in a hundred has none: an overlap that is the threshold
    but for rounding may decide either way.
    """
    total = alone = 0
    for i, other in enumerate(theirs):
        real = mine.labels[i] > 0
        ours = np.column_stack([mine.labels[i], mine.scores[i], mine.boxes[i]])[real]
        given = [other["labels"], other["scores"], other["boxes"] / 300]
        torchs = np.column_stack([each.numpy() for each in given])
        apart = np.abs(ours[:, None] - torchs[None]).max(axis=2)  # [ours, theirs]
        total += len(ours)
        alone += (apart > 1e-4).all(axis=1).sum() + abs(len(ours) - len(torchs))
    if alone > 0.01 * total:
        raise ValueError(f"{alone} of {total} detections are not those of the other side")
    return f"{total} detections, " + (f"all but {alone} the same" if alone else "the same")


def _outputs(classes: int, batch: int, priors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Random logits [B, A, C] with `_CANDIDATES` scores an image above .01, and offsets."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 1.5, (batch, len(priors), classes)).astype(np.float32)
    logits[..., 0] += _background(logits[0])
    # torchvision clips before suppression and this package after it, so boxes lie inside.
    jitter = rng.normal(0.0, 0.5, (batch, *priors.shape)).astype(np.float32)
    inside = np.clip(boxes.decode(jitter, priors), 0.0, 1.0)
    return logits, boxes.encode(inside, priors).astype(np.float32)


def _background(logits: np.ndarray) -> float:
    """What to add to the background's logit so that `_CANDIDATES` scores pass the threshold."""
    low, high = 0.0, 30.0
    for _ in range(30):
        middle = (low + high) / 2
        shifted = logits.astype(np.float64)
        shifted[:, 0] += middle
        shifted = np.exp(shifted - shifted.max(1, keepdims=True))
        passing = (shifted[:, 1:] > 0.01 * shifted.sum(1, keepdims=True)).sum()
        low, high = (middle, high) if passing > _CANDIDATES else (low, middle)
    return high


def _detector() -> step.Detector:
    return step.build(ssd300_vgg16_voc.get_config(), CLASSES)


def _our_detections(model, photos: np.ndarray):
    detector = _detector()
    variables = step.variables(step.create_state(detector))
    weights = rivals.our_weights(model, variables["params"])
    variables["params"] = jax.tree.map(
        lambda own, given: jnp.asarray(given.reshape(own.shape)), variables["params"], weights
    )
    predict = jax.jit(partial(step.predict, detector))
    config = detector.config

    def call() -> postprocess.Detections:
        sized = [
            augment.resize({"image": photo}, config.image_size, config.model.mean)["image"]
            for photo in photos
        ]
        return jax.tree.map(np.asarray, predict(variables, np.stack(sized)))

    return call


def _their_detections(model, photos: np.ndarray):
    import torch

    tensors = torch.from_numpy(photos)

    def call() -> list[dict]:
        with torch.no_grad():
            return model(list(tensors.permute(0, 3, 1, 2).float() / 255))

    return call


def _calibrated(model, photos: np.ndarray):
    """The random model with its heads scaled so that it finds about as much as a trained one."""
    import torch

    model.eval()
    images = list(torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255)
    logit_layers = model.head.classification_head.module_list
    offset_layers = model.head.regression_head.module_list
    with torch.no_grad():
        maps = list(model.backbone(model.transform(images)[0].tensors).values())
        for layers, wanted in ((logit_layers, 1.5), (offset_layers, 0.5)):
            for layer, x in zip(layers, maps):
                layer.weight *= wanted / layer(x).std()
        logits = model.head(maps)["cls_logits"][0].numpy()
        shift = _background(logits)
        for layer in logit_layers:
            layer.bias.view(-1, CLASSES)[:, 0] += shift
    return model
