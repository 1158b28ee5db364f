"""What training prints after an evaluation, and at its end."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from ssd_jax.metrics import losses, thresholds
from ssd_jax.runs.results import PRIMARY_METRIC
from ssd_jax.runtime.files import read_json

_SET = {"val": "validation", "test": "test"}
_CLASS_METRIC = "voc/AP50_area/"  # before the name of a class


def format_evaluation(
    config: ConfigDict,
    step: int,
    train_images: int,
    scores: Mapping[str, float],
    loss: float | None,
    is_best: bool,
    evaluated_set: str = "test",
) -> str:
    """A line: where training is, its loss, and the scores that tell most.

    `loss` is the mean of the steps since the evaluation before, None without any. What is not among
    the scores is left out.
    """
    epoch, epochs = (
        f"{number * config.batch_size / train_images:.1f}".removesuffix(".0")
        for number in (step, config.steps)
    )
    parts = [f"step {step}/{config.steps} (epoch {epoch}/{epochs})"]
    parts += [] if loss is None else [f"loss {loss:.2f}"]
    named = {
        f"{evaluated_set} loss": losses.NAME,
        "precision": thresholds.PRECISION,
        "recall": thresholds.RECALL,
    }
    parts += [f"{text} {scores[name]:.2f}" for text, name in named.items() if name in scores]
    parts.append(f"mAP@.5 {scores[PRIMARY_METRIC]:.4f}")
    return "  ".join(parts + ["best so far"] * is_best)


def format_end(folder: Path, scores: Mapping[str, float]) -> str:
    """Five lines: the score, best and worst class, threshold, pictures, and the next command."""
    return (
        f"mAP@.5      {scores[PRIMARY_METRIC]:.4f}{describe_origin(folder)}; all scores: "
        f"{folder / 'results.json'}\n"
        f"{_describe_classes(scores)}\n"
        f"threshold   {_describe_threshold(folder, scores)}\n"
        f"pictures    {folder / 'pictures'}\n"
        f"next        ssd-jax predict --workdir={shlex.quote(str(folder))} --input=PICTURES"
    )


def describe_origin(folder: Path) -> str:
    """Which weights were scored on which set, as text that follows a score."""
    origin = _read_origin(folder)
    if origin is None:
        return ""
    step, which, chooser = origin
    chosen = ", chosen by the validation set" if chooser == "val" != which else ""
    return f" on the {_SET[which]} set, weights of step {step}{chosen}"


def _read_origin(folder: Path) -> tuple[int, str, str] | None:
    """Step, set and chooser of the newest results; None where the file does not tell them."""
    try:
        results = read_json(folder / "results.json")
        step, which, chooser = (results[name] for name in ("step", "set", "chosen_by"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (step, which, chooser) if which in _SET else None


def _describe_classes(scores: Mapping[str, float]) -> str:
    """Best and worst class; a class without an object, whose score is NaN, is neither."""
    found = [
        (value, name.removeprefix(_CLASS_METRIC))
        for name, value in scores.items()
        if name.startswith(_CLASS_METRIC) and not math.isnan(value)
    ]
    if not found:
        return "AP@.5       no class has an object that counts"
    (best, best_name), (worst, worst_name) = max(found), min(found)
    if len(found) == 1:
        return f"AP@.5       {best_name} {best:.4f}"
    return f"AP@.5       best {best_name} {best:.4f}, worst {worst_name} {worst:.4f}"


def _describe_threshold(folder: Path, scores: Mapping[str, float]) -> str:
    if thresholds.NAME not in scores:
        return "none: no detection is correct"
    named = {"precision": thresholds.PRECISION, "recall": thresholds.RECALL}
    parts = [f"{text} {scores[name]:.2f}" for text, name in named.items() if name in scores]
    origin = _read_origin(folder)
    of_other = " on the validation set" if origin and origin[2] == "val" != origin[1] else ""
    here = f" on the {_SET[origin[1]]} set" if origin and of_other else ""
    reached = f"{';' if here else ':'} {', '.join(parts)}{here}" if parts else ""
    return f"{scores[thresholds.NAME]:.2f}, of the highest F1{of_other}{reached}"
