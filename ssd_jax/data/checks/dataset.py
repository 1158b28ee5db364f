"""The data check: what a set holds, what was corrected, errors, warnings, and prior recall."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from ssd_jax.data.annotated_image import CLIPPED, DROPPED, AnnotatedImage, count_corrections
from ssd_jax.data.files import file_keys
from ssd_jax.data.messages import printable
from ssd_jax.data.scan import Scan
from ssd_jax.data.sources import Source
from ssd_jax.errors import CheckpointError, DataError
from ssd_jax.multibox.priors import best_iou, recall
from ssd_jax.runtime.checksum import format_object, parse_object
from ssd_jax.runtime.files import write_bytes
from ssd_jax.runtime.progress import log_line
from ssd_jax.types import PLAIN

CHECK_FILE = "data_check.json"  # in a run folder
_MAX_LISTED = 5  # files behind one count
_VERSION = 3  # raise it whenever what an earlier start accepted may be refused
_PERCENTILES = (1, 5, 50, 95, 99)
_SAMPLE_SIZE = 1000  # boxes that are compared with all priors
_MAX_DROPPED = 0.01  # of all boxes; more look like another format
_MIN_DROPPED = 5  # so few are never an error
_MAX_CLIPPED = 0.25  # of all boxes
_RARE_CLASS = 0.02  # of all boxes: a class with fewer may be a typo
_TINY_SIZE = 2.0  # pixels of the network's input
_MIN_RECALL = 0.9  # of the priors; less needs other priors


def check_sets(
    sets: Mapping[str, Source],
    skipped: Mapping[str, Sequence[DataError]],
    scan: Scan,
    last_check: Mapping,
    priors: Float[np.ndarray, "A 4"],
    config: ConfigDict,
) -> dict:
    """Check the sets of a run and print the reports; returns what to save for the next start.

    `skipped` has the errors of files that were left out of each set, which are no errors then.
    `last_check` is what an earlier start saved, or {}. Where neither annotations nor images have
    changed since then, nothing is done and {} returned. Raises DataError for errors of the data.
    """
    sets = {name: source for name, source in sets.items() if source.images}
    fingerprint = " ".join(source.fingerprint for source in sets.values())
    fingerprint += f" {sum(map(len, skipped.values()))} skipped" if any(skipped.values()) else ""
    is_unchanged = last_check.get("fingerprint") == fingerprint and scan.is_unchanged()
    if not sets or is_unchanged:
        return {}
    reports = {
        name: check_dataset(
            source.images, source.classes, skipped.get(name, ()), priors, config.image_size, True
        )
        for name, source in sets.items()
    }
    for name, report in reports.items():
        log_line("\n".join(f"{name:10s} {line}" for line in format_report(report)))
    if errors := [f"{name}: {text}" for name in reports for text in reports[name]["errors"]]:
        raise DataError("\n".join(errors))
    check = {"version": _VERSION, "fingerprint": fingerprint, "sets": reports}
    return check | {"images": scan.headers}


def read_check(path: Path) -> dict:
    """What `check_sets` of an earlier start returned; {} where no such file is there.

    One that is damaged counts as none, and one of another version: it may hold images that are
    refused now.
    """
    try:
        content, has_checksum = parse_object(path.read_bytes())
    except (OSError, CheckpointError):
        return {}
    return content if has_checksum and content.get("version") == _VERSION else {}


def write_check(path: Path, check: dict) -> None:
    """Write what `check_sets` returned, for `read_check`."""
    write_bytes(path, format_object(check))


def check_dataset(
    images: Sequence[AnnotatedImage],
    classes: Sequence[str],
    file_errors: Sequence[DataError],
    priors: Float[np.ndarray, "A 4"] | None,
    image_size: tuple[int, int],
    skips_files: bool = False,
) -> dict:
    """The report of one set, as JSON values; `skips_files`: those with errors are only left out.

    Sizes are roots of areas, in pixels of the network's input `image_size` (H, W); `priors` are
    normalized corners. `errors` in the report must be corrected before training.
    """
    files = [printable(image.path.name) for image in images]
    counts = [len(image.labels) for image in images]
    boxes = np.concatenate([image.boxes for image in images] or [np.zeros((0, 4), np.float32)])
    labels = np.concatenate([image.labels for image in images] or [np.zeros(0, np.int32)])
    most = int(np.argmax(counts)) if counts else 0
    report = {
        "images": len(images),
        "boxes": len(labels),
        "ignored": sum(int((image.flags != PLAIN).sum()) for image in images),
        "images without boxes": counts.count(0),
        "most boxes": {"count": max(counts, default=0), "file": files[most] if files else ""},
        "classes": {name: int((labels == i).sum()) for i, name in enumerate(classes, 1)},
        "corrected": {
            what: {"count": count, "first": [printable(path.name) for path in paths[:_MAX_LISTED]]}
            for what, (count, paths) in count_corrections(images).items()
        },
        "refused": _group_by_reason(file_errors),
    }
    if len(boxes):
        report |= _box_statistics(boxes, priors, image_size)
    errors, warnings = _find_errors(report), _find_warnings(report)
    if refused := len(file_errors):
        if skips_files:
            warnings.append(f"{refused} left out, since config.data.bad is skip")
        else:
            errors.insert(0, f"{refused} refused: correct the files that are named, or remove them")
    return report | {"errors": errors, "warnings": warnings}


def format_report(report: Mapping) -> list[str]:
    """The lines of a report for a terminal, without what a source's summary says."""
    most = report["most boxes"]
    lines = [f"most boxes {most['count']} in {most['file']}"] if most["count"] else []
    if sizes := report.get("sizes"):
        lines.append("sizes      " + _format_range(sizes, "{:.0f}") + " pixels")
        lines.append("aspect     " + _format_range(report["aspect ratios"], "{:.2f}"))
    if priors := report.get("priors"):
        lines.append(
            f"priors     {priors['smallest']:.0f} to {priors['largest']:.0f} pixels; "
            f"{priors['recall']:.1%} of boxes have a prior with IoU ≥ 0.5"
        )
    for reason, group in report["refused"].items():
        lines.append(f"refused    {group['count']}: {reason}")
        lines += [f"           {text}" for text in group["all"][:_MAX_LISTED]]
        if group["count"] > _MAX_LISTED:
            more = group["count"] - _MAX_LISTED
            lines.append(f"           … and {more} more, all in the report")
    lines += [f"error      {text}" for text in report["errors"]]
    return lines + [f"warning    {text}" for text in report["warnings"]]


def shared_images(first: Sequence[AnnotatedImage], second: Sequence[AnnotatedImage]) -> list[str]:
    """Names of image files that are in both sets, however their paths are spelled."""
    keys, other_keys = (
        file_keys({i: image.path for i, image in enumerate(images)}) for images in (first, second)
    )
    shared = set(keys.values())
    return sorted(printable(second[i].path.name) for i, key in other_keys.items() if key in shared)


def _group_by_reason(errors: Sequence[DataError]) -> dict[str, dict]:
    groups: dict[str, list[str]] = {}
    for error in errors:
        groups.setdefault(error.reason, []).append(str(error))
    return {reason: {"count": len(texts), "all": texts} for reason, texts in groups.items()}


def _box_statistics(boxes, priors, image_size) -> dict:
    """Sizes and aspect ratios of boxes [N, 4], and the recall of the priors."""
    sides = (boxes[:, 2:] - boxes[:, :2]) * np.array(image_size[::-1])
    sizes, ratios = np.sqrt(sides.prod(1)), sides[:, 0] / sides[:, 1]
    statistics = {"sizes": _percentiles(sizes), "aspect ratios": _percentiles(ratios)}
    if priors is None:
        return statistics
    rows = np.linspace(0, len(boxes) - 1, min(len(boxes), _SAMPLE_SIZE)).astype(int)
    prior_sides = (priors[:, 2:] - priors[:, :2]) * np.array(image_size[::-1])
    prior_sizes = np.sqrt(prior_sides.prod(1))
    return statistics | {
        "priors": {
            "smallest": float(prior_sizes.min()),
            "largest": float(prior_sizes.max()),
            "recall": recall(best_iou(boxes[rows], priors)),
        }
    }


def _percentiles(values: Float[np.ndarray, " N"]) -> dict[str, float]:
    percentiles = np.percentile(values, _PERCENTILES)
    return {str(p): float(value) for p, value in zip(_PERCENTILES, percentiles)}


def _format_range(values: Mapping[str, float], form: str) -> str:
    low, high = (form.format(values[p]) for p in ("1", "99"))
    return f"half below {form.format(values['50'])}; 98 % from {low} to {high}"


def _find_errors(report: Mapping) -> list[str]:
    errors = []
    if not report["images"]:
        errors.append("no image is left")
    elif not report["boxes"]:
        errors.append("no image has a box: there is nothing to learn")
    elif report["sizes"]["50"] < _TINY_SIZE:
        errors.append(
            f"half of the boxes are below {_TINY_SIZE:g} pixels: are their numbers fractions of "
            "the image?"
        )
    dropped = sum(n["count"] for what, n in report["corrected"].items() if what in DROPPED)
    if dropped > max(_MIN_DROPPED, _MAX_DROPPED * (report["boxes"] + dropped)):
        errors.append(
            f"{dropped} boxes of {report['boxes'] + dropped} are without area or outside: are "
            "they in another format?"
        )
    return errors


def _find_warnings(report: Mapping) -> list[str]:
    warnings = []
    clipped = report["corrected"].get(CLIPPED, {"count": 0})["count"]
    if clipped > _MAX_CLIPPED * report["boxes"]:
        warnings.append(
            f"{clipped} of {report['boxes']} boxes cross the border of their image: are they "
            "corners instead of width and height, or of another image size?"
        )
    for name, similar in _possible_typos(report["classes"]):
        count = report["classes"][name]
        warnings.append(f"class {name} ({count} boxes) resembles {similar}: a typo?")
    if missing := [name for name, count in report["classes"].items() if not count]:
        warnings.append(f"no box of {', '.join(missing)}")
    if (priors := report.get("priors")) and priors["recall"] < _MIN_RECALL:
        warnings.append(
            f"{1 - priors['recall']:.0%} of boxes have no prior with IoU ≥ 0.5: try ssd-jax "
            "tune-priors"
        )
    return warnings


def _possible_typos(classes: Mapping[str, int]) -> list[tuple[str, str]]:
    """Rare classes, each with the common class whose name resembles it."""
    total = sum(classes.values())
    common = {name.lower(): name for name, n in classes.items() if n > _RARE_CLASS * total}
    rare = [name for name, n in classes.items() if 0 < n <= _RARE_CLASS * total]
    similar = ((name, difflib.get_close_matches(name.lower(), common, 1, 0.8)) for name in rare)
    return [(name, common[matches[0]]) for name, matches in similar if matches]
