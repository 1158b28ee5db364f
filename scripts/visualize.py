"""Pictures of what training does with one image: priors, matches, mined negatives, augmentation.

    python scripts/visualize.py --config=configs/NAME.py --image=INDEX|NAME --output=FOLDER \
        [--split=train|test] [--workdir=RUN]

Negatives are those that the network of --workdir finds hardest, or without it a network that knows
nothing yet.
"""

import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ssd_jax import augment, cli, draw, evaluate, losses, photometric, startup, step, workdir
from ssd_jax import boxes as box_math
from ssd_jax import config as configs
from ssd_jax.data import loader, sources
from ssd_jax.errors import DataError

_SIDE = 400  # pixels of a panel's shorter side
_MARGIN = 0.15  # around the image, of its sides, where priors reach
_VERSIONS, _TRUTHS, _HARDEST = 8, 12, 24
TRUTH, POSITIVE, NEGATIVE, CENTER = 1, 5, 6, 7  # orange, blue, red and purple of the palette


class Scene(NamedTuple):
    """One image as the network sees it without augmentation, its truths, and the detector."""

    detector: step.Detector
    source: sources.Source
    index: int
    image: np.ndarray  # [h, w, 3], for the eye
    input: np.ndarray  # [H, W, 3]
    boxes: np.ndarray  # [M, 4]
    labels: np.ndarray  # [M], 0 = padding, -1 = ignored


def scene(detector: step.Detector, source: sources.Source, index: int) -> Scene:
    """The scene of a record of a source."""
    plain = ConfigDict(detector.config.to_dict())
    plain.augment.geometric = ()
    example = loader.training_example(source, plain, index, 0, loader.padding(source))
    size = tuple(round(side * _SIDE / min(plain.image_size)) for side in plain.image_size)
    image = augment.resize(source[index], size, plain.model.mean)["image"]
    return Scene(
        detector, source, index, image, example["image"], example["boxes"], example["labels"]
    )


def find(source: sources.Source, wanted: str) -> int:
    """The index of an image by its number or its name, with or without folders and suffix."""
    if wanted.isdigit() and int(wanted) < len(source):
        return int(wanted)
    for index in range(len(source)):
        name = Path(source.name(index))
        if wanted in (str(name), name.name, name.stem):
            return index
    raise DataError(
        f"--image={wanted}: no such image; write a number below {len(source)}, "
        f"or a name as {source.name(0)}"
    )


def draw_priors(scene: Scene) -> np.ndarray:
    """A panel a level: the centers of all cells, and the priors of the middle one."""
    table, size = scene.detector.priors, np.array(scene.detector.config.image_size[::-1])
    view = augment.View(np.array([-_MARGIN, -_MARGIN, 1 + _MARGIN, 1 + _MARGIN]))
    height, width = scene.image.shape[:2]
    canvas = augment.warp(scene.image, view, (height, width), (255.0, 255.0, 255.0))
    panels, start = [], 0
    for level, ((rows, columns), each) in enumerate(zip(table.maps, table.per_cell), start=1):
        stop = start + rows * columns * each
        boxes = augment.boxes_seen(view, table.boxes[start:stop].reshape(-1, each, 4))
        middle = boxes[rows // 2 * columns + columns // 2]
        pixels = table.boxes[start : start + each, 2:] - table.boxes[start : start + each, :2]
        names = ["x".join(f"{side:.0f}" for side in row) for row in pixels * size]
        dots = _dots(boxes[:, 0], width)
        shown = np.concatenate([middle, dots])
        labels = np.concatenate([np.arange(1, each + 1), np.full(len(dots), CENTER)])
        text = f"level {level}: {rows} x {columns} cells, {each} priors each\n{', '.join(names)} px"
        panels.append(_panel(canvas, shown, labels, text))
        start = stop
    return draw.grid(panels, 3)


def _dots(boxes: np.ndarray, width: int) -> np.ndarray:
    """A box of two pixels around each center."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([center - 1 / width, center + 1 / width], axis=1)


def _panel(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, text: str) -> np.ndarray:
    """Nameless boxes in the colors of their labels, under a caption."""
    return draw.caption(draw.draw_boxes(image, boxes, labels, [""] * 7), text)


def draw_matches(scene: Scene) -> np.ndarray:
    """A panel a truth: the truth and the priors that shall find it."""
    numbers = np.where(scene.labels > 0, np.arange(1, len(scene.labels) + 1), scene.labels)
    targets = jax.jit(partial(step.matched, scene.detector))(scene.boxes, numbers)
    truth = np.asarray(targets.labels) - 1  # [A]
    overlaps = box_math.iou(scene.boxes, scene.detector.priors.boxes)  # [M, A]
    real = np.flatnonzero(scene.labels > 0)
    panels = []
    for m in real[:_TRUTHS]:
        name = scene.source.classes[scene.labels[m] - 1]
        priors = scene.detector.priors.boxes[truth == m]
        boxes = np.concatenate([scene.boxes[m : m + 1], priors])
        labels = np.array([TRUTH] + [POSITIVE] * len(priors))
        best = overlaps[m].max()
        text = f"{name} ({m + 1} of {len(real)}): {len(priors)} priors, best IoU {best:.2f}"
        panels.append(_panel(scene.image, boxes, labels, text))
    return draw.grid(panels or [draw.caption(scene.image, "no truth to match")], 4)


def mined(scene: Scene, variables: dict) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the priors [A], and the rows of those that mining picks, hardest first."""
    detector, rules = scene.detector, scene.detector.config.loss
    targets = jax.jit(partial(step.matched, detector))(scene.boxes, scene.labels)

    @jax.jit
    def mine(variables, image, labels):
        model = detector.config.model
        images = photometric.normalize(image[None], model.mean, model.std, jnp.dtype(model.dtype))
        logits, _ = detector.model.apply(variables, images, train=False)
        draws = jax.random.uniform(jax.random.key(0), labels.shape, jnp.float32)
        draws = None if rules.negatives == "hard" else draws
        logits = logits[0].astype(jnp.float32)
        return losses.mine(logits, labels, rules.negative_ratio, rules.classification, draws)

    cost, negative = map(np.asarray, mine(variables, scene.input, targets.labels))
    rows = np.flatnonzero(negative)
    return np.asarray(targets.labels), rows[np.argsort(-cost[rows], kind="stable")]


def draw_negatives(scene: Scene, variables: dict, network: str) -> np.ndarray:
    """Centers of positives and of what is trained as background, and the hardest of the latter."""
    labels, rows = mined(scene, variables)
    priors, truths = scene.detector.priors.boxes, scene.boxes[scene.labels > 0]
    dots, hardest = _dots(priors, scene.image.shape[1]), rows[:_HARDEST]
    positive = np.flatnonzero(labels > 0)
    first = f"{len(positive)} positive priors (blue), {len(rows)} mined negatives (red)"
    second = f"the {len(hardest)} hardest negatives\n{network}"
    panels = []
    for text, shown in (
        (f"{first}\nof {len(priors)}: their centers", ((positive, dots), (rows, dots))),
        (second, ((positive[:0], dots), (hardest, priors))),
    ):
        boxes = np.concatenate([truths, *(table[some] for some, table in shown)])
        counts = [len(truths), *(len(some) for some, _ in shown)]
        colors = np.repeat([TRUTH, POSITIVE, NEGATIVE], counts)
        panels.append(_panel(scene.image, boxes, colors, text))
    return draw.grid(panels, 2)


def draw_augmented(scene: Scene) -> np.ndarray:
    """The image as eight samples of training see it, with the truths that are left."""
    config = scene.detector.config
    pad_to = loader.padding(scene.source)
    examples = [
        loader.training_example(scene.source, config, scene.index, sample, pad_to)
        for sample in range(_VERSIONS)
    ]
    batch = {name: np.stack([each[name] for each in examples]) for name in examples[0]}
    images = np.asarray(jax.jit(partial(step.distorted, scene.detector))(batch)).astype(np.uint8)
    return draw.grid(
        [
            draw.draw_boxes(image, boxes[labels != 0], labels[labels != 0], scene.source.classes)
            for image, boxes, labels in zip(images, batch["boxes"], batch["labels"])
        ],
        4,
    )


def visualize(config: ConfigDict, split: str, image: str, output: Path, run: Path | None) -> None:
    """Write priors.png, matches.png, negatives.png and augmented.png of one image."""
    if run:
        workdir.check_same(run, config)
        detector, variables, classes, at = evaluate.open_run(run)
        detector = detector._replace(config=config)
        network = f"network of {run.name}, step {at}"
        source = sources.make(config.data[split], config, classes)
    else:
        source = sources.make(config.data[split], config, tuple(config.data.classes))
        detector = step.build(config, len(source.classes) + 1)
        variables = step.variables(step.create_state(detector))
        network = "freshly initialized network"
    one = scene(detector, source, find(source, image))
    draw.save(output / "priors.png", draw_priors(one))
    draw.save(output / "matches.png", draw_matches(one))
    draw.save(output / "negatives.png", draw_negatives(one, variables, network))
    draw.save(output / "augmented.png", draw_augmented(one))
    print(f"{source.name(one.index)}: priors, matches, negatives and augmented.png in {output}")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    configs.validate(given.config)
    startup.prepare()
    run = Path(given.workdir) if given.workdir else None
    visualize(given.config, given.split, given.image, Path(given.output), run)


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_enum("split", "train", ["train", "test"], "Which set of its data.")
    flags.DEFINE_string("image", "0", "Number or name of the image.")
    flags.DEFINE_string("output", None, "Folder for the pictures.", required=True)
    flags.DEFINE_string("workdir", None, "Run whose network mines the negatives.")
    flags.mark_flag_as_required("config")
    cli.run(main)
