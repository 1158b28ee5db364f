"""Evaluate: a split -> scores, and pictures of what was found."""

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ssd_jax import checkpoint, draw, parallel, step, validation, workdir
from ssd_jax import config as configs
from ssd_jax.data import loader, sources
from ssd_jax.data.sources import Source
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.metrics import coco, voc

HEADLINE = "voc/AP50_area/mean"
_PICTURES, _COLUMNS = 12, 4
_TRUTH, _DETECTION = ("boxes", "labels", "ignore"), ("boxes", "scores", "labels")


class Evaluator:
    """A held-out split, the compiled `predict`, and what they yield for given variables.

    Each process looks at its rows of each batch; the lead gets to know all, and scores it.
    """

    def __init__(self, detector: step.Detector, source: Source, runner: parallel.Runner):
        self._detector, self._source, self._runner = detector, source, runner
        self._predict = runner.compile_predict(partial(step.predict, detector))
        self._rows = parallel.whole_rows(detector.config.batch_size)

    def __call__(self, variables: dict) -> tuple[dict[str, float], np.ndarray]:
        """Scores by name, and a grid of pictures uint8 [H, W, 3]; `variables` are replicated."""
        truths, rows, pictures = {}, [], []
        for batch, found in self._detect(variables):
            named = ("image_id", "mask", "size")
            rows += [
                {name: batch[name][row] for name in named} | detection
                for row, detection in enumerate(found)
            ]
            for row in np.flatnonzero(batch["mask"]):
                image_id = int(batch["image_id"][row])
                truths[image_id] = {name: batch[name][row] for name in _TRUTH}
                if len(pictures) < _PICTURES:
                    pictures.append(self._picture(batch["image"][row], found[row]))
        columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        every = {k: v.reshape(-1, *v.shape[2:]) for k, v in parallel.gather(columns).items()}
        scores = self._scores(every, truths) if parallel.is_lead() else {}
        return parallel.everyone(scores)[0], draw.grid(pictures, _COLUMNS)

    def _detect(self, variables: dict) -> Iterator[tuple[dict, list[dict]]]:
        batches = loader.evaluation_batches(
            self._source, self._detector.config, self._rows, parallel.process()
        )
        for batch in tqdm(batches, desc="evaluating", leave=False, disable=None):
            yield batch, detections(self._runner, self._predict, variables, batch["image"])

    def _scores(self, every: dict, known: dict[int, dict]) -> dict[str, float]:
        """From rows [n, …] of all processes; truths that are not `known` here are read."""
        order = [row for row in np.argsort(every["image_id"]) if every["mask"][row]]
        found = [{name: every[name][row] for name in _DETECTION} for row in order]
        truths = [
            (known.get(i) or self._source.truths(i)) | {"size": tuple(size)}
            for i, size in zip(every["image_id"][order].tolist(), every["size"][order].tolist())
        ]
        scores = dict(voc.evaluate(truths, found, self._source.classes))
        return scores | dict(coco_scores(self._source, truths, found))

    def _picture(self, image: np.ndarray, detection: dict) -> np.ndarray:
        sure = detection["scores"] >= 0.5
        return draw.draw_boxes(
            image, detection["boxes"][sure], detection["labels"][sure], self._source.classes,
            scores=detection["scores"][sure],
        )  # fmt: skip


def coco_scores(source: Source, truths: list, found: list) -> Iterator[tuple[str, float]]:
    """The twelve COCO numbers: by the original annotation file where `source` has one."""
    if getattr(source, "original", None) is None:
        return coco.evaluate(truths, found, source.classes)
    content, image_ids, category_ids = source.original()
    sizes = [truth["size"] for truth in truths]
    return coco.evaluate_results(content, coco.to_results(found, image_ids, category_ids, sizes))


def detections(
    runner: parallel.Runner, predict: Callable, variables: dict, images: np.ndarray
) -> list[dict]:
    """Images [b, H, W, 3] through a compiled `predict` -> per image boxes, scores, labels."""
    found = runner.rows(predict(variables, runner.shard({"image": images})["image"]))._asdict()
    return [{name: values[row] for name, values in found.items()} for row in range(len(images))]


def evaluate_run(folder: Path, config: ConfigDict, which: str = "best") -> dict[str, float]:
    """Scores of a checkpoint of the run in `folder` on `config.data.test`, also in results.json.

    Raises ConfigError when `config` is another experiment than the run's.
    """
    configs.validate(config)
    workdir.check_same(folder, config)
    detector, variables, classes, at = open_run(folder, which)
    detector = detector._replace(config=config)
    source = sources.make(config.data.test, config, classes)
    if problems := validation.class_problems(config, classes, source.classes):
        raise ConfigError("\n".join(problems))
    runner = parallel.make(config.parallel)
    # The lead's, because a live run may save between their reading and ours.
    variables, at = parallel.from_lead(lambda: (variables, np.int32(at)), (variables, np.int32(at)))
    scores, picture = Evaluator(detector, source, runner)(runner.replicate(variables))
    if parallel.is_lead():
        report(folder, int(at), scores, picture, config)
    return scores


def open_run(folder: Path, which: str = "best") -> tuple[step.Detector, dict, tuple[str, ...], int]:
    """Detector, variables, class names and step of a checkpoint: "best", "latest" or a step.

    Needs the run folder alone; the priors are those that were saved with it.
    """
    run = workdir.load(folder)
    try:
        configs.validate(run.config)
        detector = step.build(run.config, len(run.classes) + 1)
    except ConfigError as error:
        raise CheckpointError(
            f"{folder / 'config.json'} is damaged, or of another version:\n{error}"
        ) from error
    if run.priors.shape != detector.priors.boxes.shape:
        raise CheckpointError(
            f"{folder / 'priors.npy'} holds {len(run.priors)} priors and the model has "
            f"{len(detector.priors.boxes)}: these files are of different runs"
        )
    detector = detector._replace(priors=detector.priors._replace(boxes=run.priors))
    like = step.abstract_state(detector)
    with checkpoint.Checkpoints(folder / "checkpoints", create=False) as checkpoints:
        state = checkpoints.restore(which, like)
    return detector, step.variables(state), run.classes, int(state.step)


def report(folder: Path, at: int, scores: dict, picture: np.ndarray, config: ConfigDict) -> None:
    """Write `results.json` (with what the scores depend on) and the picture."""
    finite = {k: (None if math.isnan(v) else round(v, 6)) for k, v in scores.items()}
    workdir.write_json(folder / "results.json", _conditions(at, config) | {"scores": finite})
    draw.save(folder / "pictures" / f"detections_{at:07d}.png", picture)


def reported(folder: Path, at: int, config: ConfigDict) -> dict[str, float]:
    """The scores of `results.json` if they are of this step, data and thresholds, else {}."""
    try:
        results = json.loads((folder / "results.json").read_text())
    except (OSError, ValueError):
        return {}
    if {name: results.get(name) for name in _conditions(at, config)} != _conditions(at, config):
        return {}
    return {k: math.nan if v is None else v for k, v in results["scores"].items()}


def _conditions(at: int, config: ConfigDict) -> dict:
    plain = configs.to_dict(config)
    return {"step": at, "data": plain["data"]["test"], "postprocess": plain["postprocess"]}


def table(scores: dict[str, float], config: ConfigDict) -> str:
    """Scores for the terminal, the thresholds beside them."""
    post = config.postprocess
    lines = [
        f"score > {post.score_threshold}, NMS at {post.iou_threshold}, "
        f"{post.top_k_per_class} a class, {post.top_k} an image"
    ]
    lines += [f"{name:32s} {value:7.4f}" for name, value in scores.items()]
    return "\n".join(lines)
