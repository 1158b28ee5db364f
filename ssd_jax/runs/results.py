"""`results.json`, the newest scores of a run and what they depend on, and scores as text."""

import math
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.config.serialization import to_dict
from ssd_jax.config.versions import upgrade
from ssd_jax.runs.metrics import rename_metrics
from ssd_jax.runtime.files import read_json, write_json
from ssd_jax.visualize.images import save_image

PRIMARY_METRIC = "voc/mAP50_area"  # by which the best checkpoint is chosen


def write_results(
    folder: Path, step: int, scores: dict[str, float], picture: np.ndarray, config: ConfigDict
) -> None:
    """Write `results.json` and the picture of detections, uint8 [H, W, 3], of a step."""
    values = {k: (round(v, 6) if math.isfinite(v) else None) for k, v in scores.items()}
    write_json(folder / "results.json", _conditions(step, config) | {"scores": values})
    save_image(folder / "pictures" / f"detections_{step:07d}.png", picture)


def read_results(folder: Path, step: int, config: ConfigDict) -> dict[str, float]:
    """The scores of `results.json`.

    {} if it cannot be read, or is of another step, test set or postprocessing.
    """
    try:
        results = read_json(folder / "results.json")
        conditions = _conditions(step, config)
        results |= {"postprocess": upgrade({"postprocess": results["postprocess"]})["postprocess"]}
        if {name: results.get(name) for name in conditions} != conditions:
            return {}
        scores = rename_metrics(results["scores"])
        scores = {
            name: math.nan if value is None else float(value) for name, value in scores.items()
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError, OverflowError):
        return {}
    return scores if PRIMARY_METRIC in scores else {}


def _conditions(step: int, config: ConfigDict) -> dict:
    values = to_dict(config)
    return {"step": step, "data": values["data"]["test"], "postprocess": values["postprocess"]}


def format_scores(scores: dict[str, float], config: ConfigDict) -> str:
    """A line for each score, under the thresholds that it depends on."""
    post = config.postprocess
    lines = [
        f"score > {post.score_threshold}, NMS at {post.iou_threshold}, "
        f"{post.top_k_per_class} a class, {post.top_k} an image"
    ]
    lines += [f"{name:32s} {value:7.4f}" for name, value in scores.items()]
    return "\n".join(lines)
