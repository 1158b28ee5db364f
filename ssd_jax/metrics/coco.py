"""COCO average precision and recall of boxes, computed by pycocotools.

pycocotools is the reference that everybody quotes, with traps that are closed here: a score that
is not a number makes a perfect result, an empty list of results and one of an unknown image fail,
results of an unknown category vanish, an annotation with the id 0 never counts as found, inputs
are changed, and everything is printed.
"""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssd_jax.errors import DataError
from ssd_jax.metrics.voc import Sizes, concatenate_images
from ssd_jax.multibox import boxes as box_ops

_NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


def evaluate(
    ground_truth: list[dict], detections: list[dict], classes: tuple[str, ...]
) -> Iterator[tuple[str, float]]:
    """The twelve COCO numbers of detections; see `voc.evaluate` for both.

    Ignored ground truth is a crowd. Images may have `areas` [N] in pixels, by which a box is small,
    medium or large (COCO's are of the segmentation); else the area of the box is taken.

    Yields and raises as `evaluate_results`; an error gives the index of the image.
    """
    if len(ground_truth) != len(detections):
        raise ValueError(
            f"{len(ground_truth)} images of ground truth, but {len(detections)} of detections"
        )
    image_ids, category_ids = range(1, len(ground_truth) + 1), range(1, len(classes) + 1)
    sizes = [image["size"] for image in ground_truth]
    results = to_results(detections, image_ids, category_ids, sizes)
    yield from evaluate_results(_to_ground_truth(ground_truth, classes), results)


def evaluate_results(ground_truth: dict, results: list[dict]) -> Iterator[tuple[str, float]]:
    """The twelve COCO numbers of results on a ground truth, neither of which is changed.

    Args:
      ground_truth: content of a COCO annotation file: images, categories, annotations.
      results: content of a COCO results file, as `to_results` makes it.

    Yields ("coco/AP", value), then AP50, AP75, AP by size of the box (small, medium, large),
    AR1, AR10, AR100 and AR by size. A number without ground truth is NaN; one without results is 0.

    Raises ValueError on a box or score that is not finite, and DataError on a result of an image
    or category that the ground truth lacks.
    """
    _check_finite("annotation", ground_truth["annotations"], ("bbox",))
    _check_finite("result", results, ("bbox", "score"))
    _check_known(ground_truth["images"], results, "image_id")
    _check_known(ground_truth["categories"], results, "category_id")
    with redirect_stdout(io.StringIO()):
        gt = _index(ground_truth, ground_truth["annotations"])
        found = _index(ground_truth, results)
        evaluation = COCOeval(gt, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    for name, value in zip(_NAMES, evaluation.stats):
        yield f"coco/{name}", math.nan if value < 0 else float(value)


def to_results(
    detections: list[dict],
    image_ids: Sequence | np.ndarray,
    category_ids: Sequence[int] | np.ndarray,
    sizes: Sizes,
) -> list[dict]:
    """Detections as COCO results: image_id, category_id, bbox [x, y, w, h] in pixels, score.

    Args:
      detections: one dict an image: boxes [K, 4], scores [K], labels [K]; label 0 is left out.
      image_ids: of each image.
      category_ids: of each class; label i + 1 has category_ids[i].
      sizes: (H, W) of each image, original pixels.

    Boxes are rounded to a thousandth of a pixel, and scores to seven decimals, what a float32
    holds, so that rounding makes no ties.

    Raises ValueError, with the index of the image, for what `voc.concatenate_images` refuses.
    """
    rows = concatenate_images(detections, ("scores",), sizes, len(category_ids))
    columns = (
        np.asarray(image_ids)[rows["image"]],
        np.asarray(category_ids)[rows["labels"] - 1],
        np.round(_to_xywh(rows["boxes"]), 3),
        np.round(rows["scores"], 7),
    )
    names = ("image_id", "category_id", "bbox", "score")
    return [dict(zip(names, row)) for row in zip(*(column.tolist() for column in columns))]


def _to_ground_truth(ground_truth: list[dict], classes: tuple[str, ...]) -> dict:
    """COCO ground truth whose image and category ids count from 1, as do its annotations."""
    sizes = [image["size"] for image in ground_truth]
    with_areas = [{"areas": _areas(image)} | image for image in ground_truth]
    rows = concatenate_images(with_areas, ("ignore", "areas"), sizes, len(classes))
    columns = (
        rows["image"] + 1, rows["labels"], _to_xywh(rows["boxes"]), rows["areas"],
        rows["ignore"].astype(int),
    )  # fmt: skip
    names = ("image_id", "category_id", "bbox", "area", "iscrowd")
    return {
        "images": [
            {"id": i, "height": int(height), "width": int(width)}
            for i, (height, width) in enumerate(sizes, 1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
        "annotations": [
            dict(zip(names, row)) for row in zip(*(column.tolist() for column in columns))
        ],
    }


def _areas(image: dict) -> Float[np.ndarray, " N"]:
    height, width = image["size"]
    return box_ops.area(image["boxes"].astype(float)) * float(height * width)


def _to_xywh(corners: Float[np.ndarray, "R 4"]) -> Float[np.ndarray, "R 4"]:
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _index(ground_truth: dict, rows: Iterable[dict]) -> COCO:
    """An indexed COCO of the images and categories of `ground_truth` and copies of `rows`."""
    annotations = [
        {"iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]} | row | {"id": i}
        for i, row in enumerate(rows, 1)
    ]
    coco = COCO()
    coco.dataset = {
        "images": ground_truth["images"],
        "categories": ground_truth["categories"],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _check_finite(kind: str, rows: list[dict], names: tuple[str, ...]) -> None:
    for name in names:
        bad = np.nonzero(~np.isfinite(np.array([row[name] for row in rows], float)))[0]
        if bad.size:
            image_id = rows[bad[0]]["image_id"]
            raise ValueError(
                f"{kind} {bad[0]}, of image {image_id}, has a {name} that is not finite: "
                "it cannot be scored"
            )


def _check_known(rows: list[dict], results: list[dict], key: str) -> None:
    known = {row["id"] for row in rows}
    unknown = next((result[key] for result in results if result[key] not in known), None)
    if unknown is not None:
        raise DataError(
            f"a result has {key} {unknown!r}, which the ground truth lacks: "
            "results and annotations must be of the same images and categories"
        )
