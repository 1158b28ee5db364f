"""The data doctor: what a set holds, what was corrected or refused, and whether the priors fit."""

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ssd_jax import boxes as box_ops
from ssd_jax import logs, workdir
from ssd_jax.data.records import CLIPPED, DROPPED, Record
from ssd_jax.data.scan import Scan
from ssd_jax.data.sources import Source
from ssd_jax.errors import DataError

FILE = "data_check.json"
_SHOWN = 5  # files behind one count
_PERCENT = (1, 5, 50, 95, 99)
_SAMPLED = 1000  # boxes that are compared with all priors
_ROWS = 50  # boxes that are compared at once
_MOST_DROPPED = 0.01  # of all boxes; more look like another format
_MOST_CLIPPED = 0.25  # of all boxes
_RARE = 0.02  # of all boxes: a class that few have may be a typo
_TINY = 2.0  # pixels of the network's input
_FEW_DROPPED = 5  # so many are never too many
_MOST_UNREACHED = 0.1  # of all boxes; more want other priors


def examine(
    records: Sequence[Record],
    classes: Sequence[str],
    refused: Sequence[DataError],
    priors: Float[np.ndarray, "A 4"] | None,
    image_size: tuple[int, int],
) -> dict:
    """What there is to know of a set before training on it, as JSON has it.

    Sizes are roots of areas, in pixels of the network's input `image_size` (H, W); `priors` are
    normalized corners. `errors` holds what must be mended first.
    """
    files = [record.path.name for record in records]
    counts = [len(record.labels) for record in records]
    every = np.concatenate([record.boxes for record in records] or [np.zeros((0, 4), np.float32)])
    labels = np.concatenate([record.labels for record in records] or [np.zeros(0, np.int32)])
    most = int(np.argmax(counts)) if counts else 0
    report = {
        "images": len(records),
        "boxes": len(labels),
        "ignored": sum(int(record.ignore.sum()) for record in records),
        "images without boxes": counts.count(0),
        "most boxes": {"count": max(counts, default=0), "file": files[most] if files else ""},
        "classes": {name: int((labels == i).sum()) for i, name in enumerate(classes, 1)},
        "corrected": _corrected(records),
        "refused": _refused(refused),
    }
    if len(every):
        report |= _shapes(every, priors, image_size)
    return report | {"errors": _errors(report), "warnings": _warnings(report)}


def lines(report: Mapping) -> list[str]:
    """The report for a terminal, without what a source's summary says."""
    most = report["most boxes"]
    found = [f"most boxes {most['count']} in {most['file']}"] if most["count"] else []
    if sizes := report.get("sizes"):
        found.append("sizes      " + _spread(sizes, "{:.0f}") + " pixels")
        found.append("aspect     " + _spread(report["aspect ratios"], "{:.2f}"))
    if priors := report.get("priors"):
        found.append(
            f"priors     {priors['smallest']:.0f} to {priors['largest']:.0f} pixels; "
            f"{priors['reached']:.1%} of boxes have one of IoU .5"
        )
    for reason, each in report["refused"].items():
        found.append(f"refused    {each['count']}: {reason}")
        found += [f"           {text}" for text in each["all"][:_SHOWN]]
        if each["count"] > _SHOWN:
            found.append(f"           … and {each['count'] - _SHOWN} more, all in the report")
    found += [f"error      {text}" for text in report["errors"]]
    return found + [f"warning    {text}" for text in report["warnings"]]


def shared(first: Sequence[Record], second: Sequence[Record]) -> list[str]:
    """Names of image files that are in both sets."""
    paths = {record.path for record in first}
    return sorted(record.path.name for record in second if record.path in paths)


def before_training(
    folder: Path,
    sets: Mapping[str, Source],
    scan: Scan,
    priors: Float[np.ndarray, "A 4"],
    image_size: tuple[int, int],
) -> None:
    """Examine the sets of a run, say what was found and keep it in the run folder.

    Where neither annotations nor images have changed since the last time, nothing is done. Raises
    DataError for what must be mended first.
    """
    sets = {name: source for name, source in sets.items() if source.records}
    fingerprint = " ".join(source.fingerprint for source in sets.values())
    if not sets or is_unchanged(folder, scan, fingerprint):
        return
    reports = {
        name: examine(source.records, source.classes, [], priors, image_size)
        for name, source in sets.items()
    }
    for name, report in reports.items():
        logs.say("\n".join(f"{name:10s} {line}" for line in lines(report)))
    if problems := [f"{name}: {text}" for name in reports for text in reports[name]["errors"]]:
        raise DataError("\n".join(problems))
    write(folder / FILE, reports, scan, fingerprint)


def best_iou(boxes: Float[np.ndarray, "N 4"], priors: Float[np.ndarray, "A 4"]) -> np.ndarray:
    """IoU [N] of boxes with the best of the priors."""
    parts = np.split(boxes, range(_ROWS, len(boxes), _ROWS))
    return np.concatenate([box_ops.iou(part, priors).max(1) for part in parts])


def known(folder: Path) -> Scan:
    """A scan that knows the images of the last check in a run folder, if there was one."""
    try:
        return Scan(json.loads((folder / FILE).read_text())["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return Scan()


def write(path: Path, reports: Mapping[str, dict], scan: Scan, fingerprint: str) -> None:
    """Save what was found, and by what a later check knows that nothing has changed."""
    workdir.write_json(path, {"fingerprint": fingerprint, "sets": reports, "images": scan.headers})


def is_unchanged(folder: Path, scan: Scan, fingerprint: str) -> bool:
    """Whether the annotations and image files are those of the last check in a run folder."""
    try:
        last = json.loads((folder / FILE).read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return last == fingerprint and scan.is_unchanged()


def _corrected(records: Sequence[Record]) -> dict[str, dict]:
    totals, files = Counter(), {}
    for record in records:
        totals.update(record.notes)
        for note in record.notes:
            files.setdefault(note, []).append(record.path.name)
    return {note: {"count": n, "first": files[note][:_SHOWN]} for note, n in totals.items()}


def _refused(errors: Sequence[DataError]) -> dict[str, dict]:
    found: dict[str, list[str]] = {}
    for error in errors:
        found.setdefault(error.reason, []).append(str(error))
    return {reason: {"count": len(texts), "all": texts} for reason, texts in found.items()}


def _shapes(every, priors, image_size) -> dict:
    """Sizes and aspect ratios of boxes [N, 4], and how the priors meet them."""
    sides = (every[:, 2:] - every[:, :2]) * np.array(image_size[::-1])
    sizes, ratios = np.sqrt(sides.prod(1)), sides[:, 0] / sides[:, 1]
    found = {"sizes": _percentiles(sizes), "aspect ratios": _percentiles(ratios)}
    if priors is None:
        return found
    sample = every[np.linspace(0, len(every) - 1, min(len(every), _SAMPLED)).astype(int)]
    best = best_iou(sample, priors)
    prior_sides = (priors[:, 2:] - priors[:, :2]) * np.array(image_size[::-1])
    prior_sizes = np.sqrt(prior_sides.prod(1))
    reached = {
        "smallest": float(prior_sizes.min()),
        "largest": float(prior_sizes.max()),
        "reached": float((best >= 0.5).mean()),
    }
    return found | {"priors": reached}


def _typos(classes: Mapping[str, int]) -> list[tuple[str, str]]:
    """Rare classes, and the common one that each is nearly called."""
    total = sum(classes.values())
    common = {name.lower(): name for name, n in classes.items() if n > _RARE * total}
    rare = [name for name, n in classes.items() if 0 < n <= _RARE * total]
    near = ((name, difflib.get_close_matches(name.lower(), common, 1, 0.8)) for name in rare)
    return [(name, common[found[0]]) for name, found in near if found]


def _percentiles(values: Float[np.ndarray, " N"]) -> dict[str, float]:
    return {str(p): float(value) for p, value in zip(_PERCENT, np.percentile(values, _PERCENT))}


def _spread(values: Mapping[str, float], form: str) -> str:
    low, *_, high = (form.format(values[p]) for p in ("1", "99"))
    return f"half below {form.format(values['50'])}; 98 % from {low} to {high}"


def _errors(report: Mapping) -> list[str]:
    problems = []
    if refused := sum(each["count"] for each in report["refused"].values()):
        problems.append(f"{refused} refused: mend what is named, or take it out")
    if not report["images"]:
        problems.append("no image is left")
    elif not report["boxes"]:
        problems.append("no image has a box: there is nothing to learn")
    elif report["sizes"]["50"] < _TINY:
        problems.append(
            f"half of the boxes are below {_TINY:g} pixels: are their numbers shares of the image?"
        )
    dropped = sum(n["count"] for note, n in report["corrected"].items() if note in DROPPED)
    if dropped > max(_FEW_DROPPED, _MOST_DROPPED * (report["boxes"] + dropped)):
        problems.append(
            f"{dropped} boxes of {report['boxes'] + dropped} are without area or outside: are "
            "they in another format?"
        )
    return problems


def _warnings(report: Mapping) -> list[str]:
    found = []
    clipped = report["corrected"].get(CLIPPED, {"count": 0})["count"]
    if clipped > _MOST_CLIPPED * report["boxes"]:
        found.append(
            f"{clipped} of {report['boxes']} boxes cross the border of their image: are they "
            "corners in place of width and height, or of another size of image?"
        )
    for name, near in _typos(report["classes"]):
        found.append(f"class {name} ({report['classes'][name]} boxes) is nearly {near}: a typo?")
    if absent := [name for name, count in report["classes"].items() if not count]:
        found.append(f"no box of {', '.join(absent)}")
    if (priors := report.get("priors")) and 1 - priors["reached"] > _MOST_UNREACHED:
        found.append("many boxes reach no prior: try python scripts/tune_priors.py")
    return found
