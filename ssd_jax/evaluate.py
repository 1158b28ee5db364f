"""Evaluation: a data set and weights -> scores, and a picture of what was found."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict
from tqdm import tqdm

from ssd_jax.config.validation import validate
from ssd_jax.data import loader, sources
from ssd_jax.data.messages import printable
from ssd_jax.data.sets import choosing_set, make_scan, open_set, scored_set
from ssd_jax.data.sources import Source
from ssd_jax.detector import (
    Detector,
    Variables,
    class_list_errors,
    predict,
    predict_with_losses,
)
from ssd_jax.errors import ConfigError, DataError, ResourceError
from ssd_jax.metrics import coco, losses, thresholds, voc
from ssd_jax.runs.folder import (
    check_same_detector,
    read_kept_sets,
    read_run_info,
    with_saved_orientation,
)
from ssd_jax.runs.load import restore_run
from ssd_jax.runs.results import format_scores, write_results
from ssd_jax.runtime import devices, distributed
from ssd_jax.runtime.background import prefetch
from ssd_jax.runtime.progress import log_line
from ssd_jax.types import PLAIN, Batch
from ssd_jax.visualize.comparison import draw_comparison
from ssd_jax.visualize.images import image_grid
from ssd_jax.weights.class_names import match_class_names

T = TypeVar("T")

_MAX_PICTURES, _COLUMNS, _PAD = 12, 2, 12
_MAX_NAME = 40  # letters of a file name above a picture; copies differ at its end
_DEFAULT_THRESHOLD = 0.5  # of what is drawn, where the evaluation found none
_GROUND_TRUTH, _DETECTION = ("boxes", "labels", "flags"), ("boxes", "scores", "labels")
_LOSS = ("classification", "localization", "positives")


class Evaluator:
    """A test set and the compiled prediction; called with weights it returns their scores.

    Each process detects in its rows of each batch; the main process gathers them and computes the
    scores. `set_labels` [C] has the test set's label of each of the detector's, 0 for none; by
    default they are the same. With them there is no loss: the labels are
    not those of training.
    """

    def __init__(
        self,
        detector: Detector,
        source: Source,
        runner: devices.Runner,
        set_labels: Int[np.ndarray, " C"] | None = None,
    ):
        self._detector, self._source, self._runner = detector, source, runner
        self._set_labels = set_labels
        self._has_loss = set_labels is None
        step = _detect_with_losses if self._has_loss else _detect
        self._predict = runner.compile_predict(partial(step, detector))
        self._rows = rows_of_a_batch(detector.config)
        self._padded_boxes = loader.padded_box_count(source)
        self._thresholds: Mapping[str, float] | None = None  # those of another set

    def on(self, source: Source, found: Mapping[str, float]) -> "Evaluator":
        """The same for another set of these classes, at the thresholds among `found` scores."""
        other = copy.copy(self)
        other._source, other._thresholds = source, thresholds.among(found)
        other._padded_boxes = max(self._padded_boxes, loader.padded_box_count(source))
        return other

    def __call__(
        self, variables: Variables, report: Callable[[int, int], None] | None = None
    ) -> tuple[dict[str, float], np.ndarray]:
        """Scores by name, and a picture uint8 [H, W, 3], which only the main process draws.

        The picture has the first images of the main process, with ground truth and detections.
        `variables` are replicated. `report` is told the number of images that are done, and of all;
        without it there is a progress bar.
        """
        local_gt, rows, drawn = {}, [], []
        for batch, detections in self._detect_batches(variables, report):
            rows += [
                {name: batch[name][row] for name in ("image_id", "mask", "size")} | detection
                for row, detection in enumerate(detections)
            ]
            for row in np.flatnonzero(batch["mask"]):
                image_id = int(batch["image_id"][row])
                local_gt[image_id] = {name: batch[name][row] for name in _GROUND_TRUTH}
                if len(drawn) < _MAX_PICTURES:
                    drawn.append((image_id, detections[row]))
        columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        gathered = distributed.process_allgather(columns)  # [processes, n, …]
        gathered = {k: v.reshape(-1, *v.shape[2:]) for k, v in gathered.items()}
        scores = self._score(gathered, local_gt) if distributed.is_main_process() else {}
        scores = distributed.allgather_json(scores)[0]
        if not distributed.is_main_process():
            return scores, np.zeros((0, 0, 3), np.uint8)
        panels = [self._draw(image_id, found, scores) for image_id, found in drawn]
        return scores, image_grid(panels, _COLUMNS, _PAD)

    def _detect_batches(
        self, variables: Variables, report: Callable[[int, int], None] | None = None
    ) -> Iterator[tuple[Batch, list[dict]]]:
        """Each batch with what `_detect` or `_detect_with_losses` gives for each of its images."""
        process = distributed.process_index_and_count()
        batches = loader.evaluation_batches(
            self._source, self._detector.config, self._rows, process
        )
        inputs = ((batch, self._inputs(batch)) for batch in batches)
        detected = _run_batches(self._runner, self._predict, variables, inputs)
        hidden = True if report else None  # None: where there is no terminal
        shown = tqdm(detected, desc="evaluating", leave=False, disable=hidden)
        if report:
            report(0, len(self._source))
        for number, (batch, detections) in enumerate(shown, start=1):
            if report:
                report(min(number * self._rows, len(self._source)), len(self._source))
            if self._set_labels is not None:
                detections = [_relabel(found, self._set_labels) for found in detections]
            yield batch, detections

    def _inputs(self, batch: Batch) -> Batch:
        """What the devices get of a batch."""
        if not self._has_loss:
            return {"image": batch["image"]}
        rows = range(len(batch["boxes"]))
        images = [{name: batch[name][row] for name in _GROUND_TRUTH} for row in rows]
        targets = loader.pad_ground_truth(images, self._detector.config, self._padded_boxes)
        return targets | {
            "image": batch["image"], "image_id": batch["image_id"].astype(np.int32)
        }  # fmt: skip

    def _score(self, gathered: dict, local_gt: dict[int, dict]) -> dict[str, float]:
        """Scores of rows [n, …] of all processes.

        Ground truth of images that another process read is read from the source.
        """
        order = [row for row in np.argsort(gathered["image_id"]) if gathered["mask"][row]]
        if not order:
            raise DataError(f"none of {len(self._source)} images to score can be read any more")
        detections = [{name: gathered[name][row] for name in _DETECTION} for row in order]
        image_ids, sizes = (gathered[name][order].tolist() for name in ("image_id", "size"))
        ground_truth = []
        for image_id, size in zip(image_ids, sizes):
            gt = local_gt.get(image_id) or self._source.ground_truth(image_id)
            ignore = gt["flags"] != PLAIN
            ground_truth.append(
                {
                    "boxes": gt["boxes"],
                    "labels": gt["labels"],
                    "ignore": ignore,
                    "size": tuple(size),
                }
            )
        classes = self._source.classes
        matches = voc.match_classes(ground_truth, detections, classes)
        scores = dict(voc.average_precisions(matches, classes))
        source = self._source
        if len(image_ids) < len(source):  # files that could not be read are not scored
            source = sources.subset(source, image_ids, "")
        scores |= dict(coco_scores(source, ground_truth, detections))
        scores |= dict(thresholds.evaluate(matches, classes, self._thresholds))
        return scores | (self._mean_losses(gathered, order) if self._has_loss else {})

    def _mean_losses(self, gathered: dict, order: list) -> dict[str, float]:
        classification, localization, positives = (gathered[name][order] for name in _LOSS)
        options = self._detector.config.loss
        return dict(
            losses.evaluate(
                classification, localization, positives,
                options.localization_weight, options.normalizer,
            )
        )  # fmt: skip

    def _draw(self, image_id: int, found: dict, scores: dict[str, float]) -> np.ndarray:
        """An image as it is in its file, with ground truth and what `predict` would return."""
        example, classes = self._source[image_id], self._source.classes
        least = np.array([1.0, *thresholds.select(scores, classes, _DEFAULT_THRESHOLD)])  # [C]
        kept = (found["scores"] >= least[found["labels"]]) & (found["labels"] > 0)
        name = printable(self._source.name(image_id))[:_MAX_NAME]
        return draw_comparison(
            example["image"],
            (example["boxes"], example["labels"]),
            example["flags"] != PLAIN,
            (found["boxes"][kept], found["labels"][kept]),
            found["scores"][kept],
            classes,
            (f"{name}: ground truth", "detections"),
        )


def _detect(detector: Detector, variables: Variables, batch: Batch) -> dict:
    return predict(detector, variables, batch["image"])._asdict()


def _detect_with_losses(detector: Detector, variables: Variables, batch: Batch) -> dict:
    detections, loss = predict_with_losses(detector, variables, batch)
    return detections._asdict() | {name: getattr(loss, name) for name in _LOSS}


def _relabel(found: dict, set_labels: Int[np.ndarray, " C"]) -> dict:
    """Detections with other labels; those that have none are empty slots."""
    labels = set_labels[found["labels"]]
    return found | {"labels": labels, "scores": np.where(labels > 0, found["scores"], 0.0)}


def coco_scores(
    source: Source, ground_truth: list[dict], detections: list[dict]
) -> Iterator[tuple[str, float]]:
    """The twelve COCO numbers, from all of the annotation file where the source has one."""
    scoring_inputs = getattr(source, "scoring_inputs", None)
    if scoring_inputs is None:
        return coco.evaluate(ground_truth, detections, source.classes)
    content, image_ids, category_ids = scoring_inputs()
    sizes = [gt["size"] for gt in ground_truth]
    results = coco.to_results(detections, image_ids, category_ids, sizes)
    return coco.evaluate_results(content, results)


def rows_of_a_batch(config: ConfigDict) -> int:
    """Images of a batch of all devices in evaluation and prediction."""
    return devices.round_up_to_device_count(config.eval_batch_size or config.batch_size)


def detect_batches(
    runner: devices.Runner,
    compiled_predict: Callable,
    variables: Variables,
    batches: Iterable[tuple[T, np.ndarray]],
) -> Iterator[tuple[T, list[dict]]]:
    """Each batch with the detections of its images: boxes [K, 4], scores [K], labels [K] of each.

    `batches` are pairs of anything and images [b, H, W, 3]; they are made in a background thread.
    While a batch is used, the devices compute the next one, and the one after is made.
    """
    inputs = ((batch, {"image": images}) for batch, images in batches)

    def detect(variables: Variables, rows: Batch) -> dict:
        return compiled_predict(variables, rows["image"])._asdict()

    return _run_batches(runner, detect, variables, inputs)


def _run_batches(
    runner: devices.Runner,
    compiled: Callable,
    variables: Variables,
    batches: Iterable[tuple[T, Batch]],
) -> Iterator[tuple[T, list[dict]]]:
    """`detect_batches` of a function (variables, batch on the devices) -> dict of [B, …]."""
    sharded = ((batch, runner.shard(inputs)) for batch, inputs in batches)
    running = None
    with closing(prefetch(sharded)) as on_devices:
        for batch, inputs in on_devices:
            found = compiled(variables, inputs)
            if running is not None:
                yield running[0], _rows(runner.to_host(running[1]))
            running = batch, found
    if running is not None:
        yield running[0], _rows(runner.to_host(running[1]))


def _rows(columns: dict) -> list[dict]:
    return [
        {name: values[row] for name, values in columns.items()}
        for row in range(len(columns["labels"]))
    ]


def evaluate_run(folder: Path, config: ConfigDict, which: str = "best") -> dict[str, float]:
    """Scores of a checkpoint of the run in `folder` on its test set; writes results.json.

    Without a test set they are those of the validation set. A test set may give other names to some
    of the run's classes (`weights.class_names`): then its classes alone are scored. Raises
    ConfigError where `config` is of another detector than the run's.
    """
    validate(config)
    config = with_saved_orientation(config, folder)
    saved = read_run_info(folder)
    check_same_detector(folder, saved.config, config)
    run = restore_run(folder, saved, which)
    detector = run.detector._replace(config=config)
    source, set_labels = _open_scored_set(run.classes, config, read_kept_sets(folder))
    runner = devices.get_runner(config.parallel)
    # The main process's: a live run may save between the reads of two processes.
    loaded = (run.variables, np.int32(run.step))
    variables, step = distributed.broadcast_from_main(lambda: loaded, loaded)
    evaluator = Evaluator(detector, source, runner, set_labels)
    if choosing_set(saved.config) == "val" and scored_set(config) == "test" and set_labels is None:
        evaluator = evaluator.on(source, run.scores)  # the run's own thresholds, as `predict`
    scores, picture = evaluator(runner.replicate(variables))
    if distributed.is_main_process():
        try:
            is_best = which == "best"
            write_results(folder, int(step), scores, picture, config, is_chosen=is_best)
        except ResourceError:
            log_line(format_scores(scores, config))  # they took a while
            raise
    return scores


def _open_scored_set(
    classes: tuple[str, ...], config: ConfigDict, kept: Mapping[str, Any]
) -> tuple[Source, Int[np.ndarray, " C"] | None]:
    """The set to score with a run's classes; or with its own, and its label of each of the run's.

    Raises DataError for a class that the run does not have under any name.
    """
    which, scan = scored_set(config), make_scan(config)
    try:
        source = open_set(config, which, classes, scan, kept)
    except DataError:
        if not config.data[which]:
            raise
        again = make_scan(config, scan.headers)
        source = sources.make_source(config.data[which], config, scan=again)
        matched = match_class_names(source.classes, classes)
        if len(matched) < len(source.classes):
            raise
        names = ", ".join(f"{name} = {other}" for name, other in matched.items() if name != other)
        if distributed.is_main_process():
            log_line(f"{len(matched)} of the run's {len(classes)} classes are scored: {names}")
        label_of = {other: source.classes.index(name) + 1 for name, other in matched.items()}
        return source, np.array([0, *(label_of.get(name, 0) for name in classes)], np.int32)
    if errors := class_list_errors(config, classes, {which: source.classes}):
        raise ConfigError("\n".join(errors))
    return source, None
