"""What a sweep's folder says about each run: how far it is, its scores, its curves."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from scripts.sweeping import launch, plan
from ssd_jax import config as configs

_TAIL = 4000  # bytes of a log that are looked at


class Record(NamedTuple):
    """A run and what became of it. `scores` are empty until it is finished."""

    run: plan.Run
    state: str  # finished, failed, unfinished or not started
    detail: str
    scores: dict[str, float]
    lines: list[dict[str, Any]]  # of metrics.jsonl
    picture: Path | None  # newest detections


def read(folder: Path, run: plan.Run) -> Record:
    """The record of a run in a sweep's folder; the run may be alive."""
    workdir = folder / run.id
    lines = _metrics(workdir / "metrics.jsonl")
    scores = _scores(workdir / "results.json", run)
    state, detail = _state(folder, run, scores, lines)
    rates = [line["images_per_second"] for line in lines if line.get("images_per_second")]
    if scores and rates:
        scores["images_per_second"] = rates[-1]  # the mean since the run was last started
    pictures = sorted((workdir / "pictures").glob("detections_*.png"))
    return Record(run, state, detail, scores, lines, pictures[-1] if pictures else None)


def is_finished(folder: Path, run: plan.Run) -> bool:
    """Whether the run's scores after its last step are there."""
    return bool(_scores(folder / run.id / "results.json", run))


def _state(folder: Path, run: plan.Run, scores: dict, lines: list[dict]) -> tuple[str, str]:
    if scores:
        return "finished", ""
    log = launch.log_path(folder, run)
    if not log.exists() and not lines:
        return "not started", ""
    tail = log.read_bytes()[-_TAIL:].decode(errors="replace").splitlines() if log.exists() else []
    step = max((line["step"] for line in lines), default=0)
    reached = f"step {step} of {run.config.steps}"
    if tail and tail[-1].startswith(launch.ENDED):
        code = tail[-1].removeprefix(launch.ENDED).split()[0]
        said = next((line for line in reversed(tail[:-1]) if line.strip()), "")
        if int(code) not in (0, 42):
            return "failed", f"exit code {code} at {reached}: {said}"
    return "unfinished", reached


def _scores(path: Path, run: plan.Run) -> dict[str, float]:
    """The scores of results.json if they are of the last step, data and thresholds, else {}."""
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    config = configs.to_dict(run.config)
    wanted = (config["steps"], config["data"]["test"], config["postprocess"])
    if (results.get("step"), results.get("data"), results.get("postprocess")) != wanted:
        return {}
    return {name: math.nan if x is None else x for name, x in results.get("scores", {}).items()}


def _metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; the last one of a live run may be half written."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
