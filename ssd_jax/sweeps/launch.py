"""Launchers: the command of a run printed, run here, or (in `slurm`) submitted.

A job is one process. Its output goes to its log, whose last line is its exit code.
"""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ssd_jax.errors import Interrupted, SsdError
from ssd_jax.runtime.progress import format_duration, log_line
from ssd_jax.runtime.signals import StopSignals
from ssd_jax.sweeps import plan

EXIT_MESSAGE = "ended with exit code"  # starts the last line of a log


class Job(NamedTuple):
    """A process to start: its name in messages, its command, and its log."""

    name: str
    command: tuple[str, ...]
    log: Path


def make_job(
    sweep: plan.Sweep, run: plan.SweepRun, folder: Path, python: str = sys.executable
) -> Job:
    """The job of a run; its command can be repeated by hand from the project's folder."""
    flags = plan.command_line_flags(sweep.file, sweep.overrides | run.overrides)
    command = (python, "-m", "ssd_jax.main", *flags, f"--workdir={folder / run.id}")
    return Job(f"{run.id} {plan.format_overrides(run.overrides)}", command, log_path(folder, run))


def log_path(folder: Path, run: plan.SweepRun) -> Path:
    """The log of a run in a sweep's folder."""
    return folder / f"{run.id}.log"


def print_commands(jobs: Sequence[Job]) -> None:
    """Print the commands, for any other launcher."""
    for job in jobs:
        print(shlex.join(job.command))


def run_locally(jobs: Sequence[Job]) -> None:
    """Run the jobs one after the other; a job that fails does not stop the next.

    SIGINT, SIGTERM and SIGHUP are passed on to the current job as SIGTERM, upon which it saves;
    no other job is started. Raises SsdError, naming jobs and logs, when any failed, and Interrupted
    when none failed but not all are finished.
    """
    failed, unfinished, started = [], [], time.monotonic()
    current: subprocess.Popen | None = None

    def terminate_current() -> None:
        if current:
            current.terminate()

    def on_start(process: subprocess.Popen) -> None:
        nonlocal current
        current = process
        if signals.received:  # before `current` was set
            terminate_current()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    with StopSignals(numbers, terminate_current, second_is_default=False) as signals:
        for count, job in enumerate(jobs, start=1):
            if signals.received:
                unfinished.append(job.name)
                continue
            log_line(f"[{count}/{len(jobs)}] {job.name}")
            job_started = time.monotonic()
            code = run_job(job, on_start)
            now = time.monotonic()
            spent = format_duration(now - job_started)
            left = format_duration((now - started) / count * (len(jobs) - count))
            log_line(f"    {describe_exit_code(code)} after {spent}; {left} left")
            if code == Interrupted.exit_code:
                unfinished.append(job.name)
            elif code:
                failed.append(f"{job.name}: exit code {code}, see {job.log}")
    if failed:
        raise SsdError("\n  ".join([f"{len(failed)} of {len(jobs)} runs failed:", *failed]))
    if unfinished:
        raise Interrupted(f"{len(unfinished)} runs are not finished: start the same command again")


def run_job(job: Job, on_start: Callable[[subprocess.Popen], None]) -> int:
    """Run a job to its end; returns its exit code, or -N if signal N killed it.

    `on_start` is called with the process. The process has a session of its own: a Ctrl-C at the
    terminal is passed on to it and must not reach it twice, since a second one ends it at once.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with job.log.open("a") as log:
        print(f"$ {shlex.join(job.command)}", file=log, flush=True)
        with _block_slurm_warning():
            process = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        on_start(process)
        code = process.wait()
        print(
            f"{EXIT_MESSAGE} {code} after {format_duration(time.monotonic() - started)}", file=log
        )
    return code


def describe_exit_code(code: int) -> str:
    """An exit code as text."""
    texts = {0: "done", Interrupted.exit_code: "interrupted, all saved"}
    return texts.get(code, f"failed with exit code {code}")


@contextmanager
def _block_slurm_warning() -> Iterator[None]:
    """A process that is started inside never gets SIGUSR2, since it inherits blocked signals.

    SLURM sends its warning to every process of a job, and only the job's own may act on it.
    """
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
