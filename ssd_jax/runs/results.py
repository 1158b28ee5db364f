"""`results.json`, the newest scores of a run and what they depend on, and scores as text."""

import math
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.config.serialization import to_dict
from ssd_jax.config.versions import upgrade
from ssd_jax.data.sets import choosing_set, scored_set
from ssd_jax.runs.metrics import rename_metrics
from ssd_jax.runtime.files import read_json, write_json
from ssd_jax.visualize.images import save_image

PRIMARY_METRIC = "voc/mAP50_area"  # by which the best checkpoint is chosen


def write_results(
    folder: Path,
    step: int,
    scores: dict[str, float],
    picture: np.ndarray,
    config: ConfigDict,
    which: str | None = None,
    last_step: int | None = None,
    is_chosen: bool = True,
) -> None:
    """Write `results.json` and the picture of detections, uint8 [H, W, 3], of a step.

    `which` set was scored, by default `scored_set`. Where they are the result of a training, it
    ended after `last_step`, whichever step is scored. Unless `is_chosen` no set chose the step.
    """
    which = which or scored_set(config)
    values = {k: (round(v, 6) if math.isfinite(v) else None) for k, v in scores.items()}
    chooser = choosing_set(config) if is_chosen else ""
    content = {"step": step, **_conditions(config, which), "chosen_by": chooser}
    if last_step is not None:
        content["training"] = {"last_step": last_step, **_length(config)}
    write_json(folder / "results.json", content | {"scores": values})
    start = "test_" if which != choosing_set(config) else ""
    save_image(folder / "pictures" / f"{start}detections_{step:07d}.png", picture)


def read_results(folder: Path, step: int, config: ConfigDict) -> dict[str, float]:
    """The scores of `results.json` on the scored set, after a training of so many steps.

    The training may have ended earlier by `config.patience`. {} if the file cannot be read, or is
    of another step, set or postprocessing.
    """
    try:
        results = read_json(folder / "results.json")
        results |= {"postprocess": upgrade({"postprocess": results["postprocess"]})["postprocess"]}
        conditions = _conditions(config, scored_set(config))
        found = {"set": "test"} | results  # files of older versions do not tell it
        if {name: found[name] for name in conditions} != conditions:
            return {}
        if step not in _trained_steps(results, config):
            return {}
        scores = rename_metrics(results["scores"])
        scores = {
            name: math.nan if value is None else float(value) for name, value in scores.items()
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError, OverflowError):
        return {}
    return scores if PRIMARY_METRIC in scores else {}


def _conditions(config: ConfigDict, which: str) -> dict:
    """What scores of a set depend on beside the step."""
    values = to_dict(config)
    data = values["data"][which] or [*values["data"]["train"], f"split {values['data']['split']}"]
    return {"set": which, "data": data, "postprocess": values["postprocess"]}


def _length(config: ConfigDict) -> dict:
    return {"steps": config.steps, "patience": config.patience}


def _trained_steps(results: dict, config: ConfigDict) -> list[int]:
    """Numbers of steps of trainings that have these results."""
    training = results.get("training")
    if training is None:
        return [results["step"]] if choosing_set(config) == "test" else []
    is_whole = {name: training[name] for name in _length(config)} == _length(config)
    return [training["last_step"], *([config.steps] if is_whole else [])]


def describe_weights(config: ConfigDict) -> str:
    """Whose scores, on which set, the result of a training is: text that follows "of"."""
    if choosing_set(config) == "test":
        return "the last weights, on the test set"
    where = "the test set" if scored_set(config) == "test" else "that set"
    return f"the best checkpoint, which the validation set chose, on {where}"


def format_scores(scores: dict[str, float], config: ConfigDict) -> str:
    """A line for each score, under the thresholds that it depends on."""
    post = config.postprocess
    lines = [
        f"score > {post.score_threshold}, NMS at {post.iou_threshold}, "
        f"{post.top_k_per_class} a class, {post.top_k} an image"
    ]
    lines += [f"{name:32s} {value:7.4f}" for name, value in scores.items()]
    return "\n".join(lines)
