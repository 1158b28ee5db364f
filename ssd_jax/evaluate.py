"""Evaluate: a split -> scores, and pictures of what was found."""

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ssd_jax import checkpoint, draw, step, workdir
from ssd_jax import config as configs
from ssd_jax.data import loader, sources
from ssd_jax.data.sources import Source
from ssd_jax.metrics import coco, voc
from ssd_jax.parallel import Runner, make

HEADLINE = "voc/AP50_area/mean"
_PICTURES, _COLUMNS = 12, 4


class Evaluator:
    """A held-out split, the compiled `predict`, and what they yield for given variables."""

    def __init__(self, detector: step.Detector, source: Source, runner: Runner):
        self._detector, self._source, self._runner = detector, source, runner
        self._predict = runner.compile_predict(partial(step.predict, detector))

    def __call__(self, variables: dict) -> tuple[dict[str, float], np.ndarray]:
        """Scores by name, and a grid of pictures uint8 [H, W, 3]; `variables` are replicated."""
        truths, detections, pictures = [], [], []
        for truth, detection, image in self._detect(variables):
            truths.append(truth)
            detections.append(detection)
            if len(pictures) < _PICTURES:
                pictures.append(self._picture(image, truth, detection))
        scores = dict(voc.evaluate(truths, detections, self._source.classes))
        scores |= coco.evaluate(truths, detections, self._source.classes)
        return scores, draw.grid(pictures, _COLUMNS)

    def _detect(self, variables: dict) -> Iterator[tuple[dict, dict, np.ndarray]]:
        batches = loader.evaluation_batches(
            self._source, self._detector.config, self._detector.config.batch_size
        )
        for batch in tqdm(batches, desc="evaluating", leave=False, disable=None):
            images = self._runner.shard({"image": batch["image"]})["image"]
            found = self._runner.rows(self._predict(variables, images))
            for row in np.flatnonzero(batch["mask"]):
                truth = {name: batch[name][row] for name in ("boxes", "labels", "ignore", "size")}
                yield truth, {k: v[row] for k, v in found._asdict().items()}, batch["image"][row]

    def _picture(self, image: np.ndarray, truth: dict, detection: dict) -> np.ndarray:
        sure = detection["scores"] >= 0.5
        return draw.draw_boxes(
            image, detection["boxes"][sure], detection["labels"][sure], self._source.classes,
            scores=detection["scores"][sure],
        )  # fmt: skip


def evaluate_run(folder: Path, config: ConfigDict, which: str = "best") -> dict[str, float]:
    """Scores of a checkpoint of the run in `folder` on `config.data.test`, also in results.json.

    Raises ConfigError when `config` is another experiment than the run's.
    """
    workdir.describe(folder)
    workdir.check_same(folder, config)
    detector, variables, classes, at = open_run(folder, which)
    detector = detector._replace(config=config)
    source = sources.make(config.data.test, config, classes)
    runner = make(config.parallel, config.batch_size)
    scores, picture = Evaluator(detector, source, runner)(runner.replicate(variables))
    report(folder, at, scores, picture, config)
    return scores


def open_run(folder: Path, which: str = "best") -> tuple[step.Detector, dict, tuple[str, ...], int]:
    """Detector, variables, class names and step of a checkpoint: "best", "latest" or a step.

    Needs the run folder alone; the priors are those that were saved with it.
    """
    classes = tuple(workdir.describe(folder)["classes"])
    detector = step.build(configs.load(folder / "config.json"), len(classes) + 1)
    saved = np.load(folder / "priors.npy", allow_pickle=False)
    detector = detector._replace(priors=detector.priors._replace(boxes=saved))
    like = step.abstract_state(detector)
    with checkpoint.Checkpoints(folder / "checkpoints", create=False) as checkpoints:
        state = checkpoints.restore(which, like)
    return detector, step.variables(state), classes, int(state.step)


def report(folder: Path, at: int, scores: dict, picture: np.ndarray, config) -> None:
    """Write `results.json` (with the thresholds the scores depend on) and the picture."""
    finite = {k: (None if math.isnan(v) else round(v, 6)) for k, v in scores.items()}
    postprocess = json.loads(config.postprocess.to_json())
    workdir.write_json(
        folder / "results.json", {"step": at, "postprocess": postprocess, "scores": finite}
    )
    draw.save(folder / "pictures" / f"detections_{at:07d}.png", picture)


def last_report(folder: Path) -> tuple[int, dict[str, float]]:
    """Step and scores of `results.json`; (-1, {}) where there is none."""
    path = folder / "results.json"
    if not path.exists():
        return -1, {}
    results = json.loads(path.read_text())
    scores = {k: math.nan if v is None else v for k, v in results["scores"].items()}
    return results["step"], scores


def table(scores: dict[str, float], config) -> str:
    """Scores for the terminal, the thresholds beside them."""
    post = config.postprocess
    lines = [
        f"score > {post.score_threshold}, NMS at {post.iou_threshold}, "
        f"{post.top_k_per_class} a class, {post.top_k} an image"
    ]
    lines += [f"{name:32s} {value:7.4f}" for name, value in scores.items()]
    return "\n".join(lines)
