"""The state of a run in a sweep's folder: how far it is, its metrics, scores and newest picture."""

import statistics
from pathlib import Path
from typing import Any, NamedTuple

from ssd_jax.errors import Interrupted
from ssd_jax.runs.metrics import read_metrics
from ssd_jax.runs.results import read_results
from ssd_jax.sweeps import launch, plan

_TAIL_BYTES = 4000  # of a log that are read


class RunStatus(NamedTuple):
    """A run and what its folder says about it."""

    run: plan.SweepRun
    state: str  # finished, failed, unfinished or not started
    detail: str
    scores: dict[str, float]  # after the last step; {} before
    metrics: list[dict[str, Any]]  # the lines of metrics.jsonl
    picture: Path | None  # the newest detections


def read_status(folder: Path, run: plan.SweepRun) -> RunStatus:
    """The status of a run in a sweep's folder; the run may be alive."""
    workdir = folder / run.id
    metrics = read_metrics(workdir / "metrics.jsonl")
    scores = read_results(workdir, run.config.steps, run.config)
    state, detail = _find_state(folder, run, scores, metrics)
    rates = [line["images_per_second"] for line in metrics if line.get("images_per_second")]
    if scores and rates:
        scores["images_per_second"] = statistics.median(rates)  # of the lines
    pictures = sorted((workdir / "pictures").glob("detections_*.png"))
    return RunStatus(run, state, detail, scores, metrics, pictures[-1] if pictures else None)


def _find_state(
    folder: Path, run: plan.SweepRun, scores: dict[str, float], metrics: list[dict[str, Any]]
) -> tuple[str, str]:
    """State and detail of a run; its log ends with its exit code."""
    if scores:
        return "finished", ""
    log = launch.log_path(folder, run)
    if not log.exists() and not metrics:
        return "not started", ""
    text = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace") if log.exists() else ""
    *lines, last_line = text.splitlines() or [""]
    last_step = max((line["step"] for line in metrics), default=0)
    progress = f"step {last_step} of {run.config.steps}"
    if last_line.startswith(launch.EXIT_MESSAGE):
        code = int(last_line.removeprefix(launch.EXIT_MESSAGE).split()[0])
        if code not in (0, Interrupted.exit_code):
            error = next((line for line in reversed(lines) if line.strip()), "")
            return "failed", f"exit code {code} at {progress}: {error}"
    return "unfinished", progress
