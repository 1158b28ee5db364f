"""Launchers: a run's command printed, run here, or handed to SLURM.

A job is one process; what it prints goes to its log, whose last line is how it ended.
"""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from scripts.sweeping import plan
from ssd_jax.errors import Interrupted, SsdError

ENDED = "ended with exit code"


class Job(NamedTuple):
    """A process to be: what it is called for a person, its command, and its log."""

    name: str
    command: tuple[str, ...]
    log: Path


def job(sweep: plan.Sweep, run: plan.Run, folder: Path, python: str = sys.executable) -> Job:
    """The job of a run, whose command anybody can repeat from the project's folder."""
    flags = plan.arguments(sweep.file, sweep.given | run.overrides)
    command = (python, "-m", "ssd_jax.main", *flags, f"--workdir={folder / run.id}")
    return Job(f"{run.id} {plan.words(run.overrides)}", command, log_path(folder, run))


def log_path(folder: Path, run: plan.Run) -> Path:
    """Where a run's output is."""
    return folder / f"{run.id}.log"


def show(jobs: Sequence[Job]) -> None:
    """Print the commands, for any other launcher."""
    for each in jobs:
        print(shlex.join(each.command))


def local(jobs: Sequence[Job]) -> None:
    """Run one after the other, to the end of each whatever becomes of the others.

    SIGINT, SIGTERM and SIGHUP are handed on to the run at hand, which saves, and end the sweep.

    Raises SsdError, naming runs and logs, when some failed, and Interrupted when none did but some
    were interrupted or not begun.
    """
    failed, left, began = [], [], time.monotonic()
    with _Signals() as signals:
        for done, each in enumerate(jobs):
            if signals.received:
                left.append(each.name)
                continue
            _say(f"[{done + 1}/{len(jobs)}] {each.name}")
            start = time.monotonic()
            code = run(each, signals.watch)
            spent, mean = time.monotonic() - start, (time.monotonic() - began) / (done + 1)
            ahead = duration(mean * (len(jobs) - done - 1))
            _say(f"    {ending(code)} after {duration(spent)}; {ahead} left")
            if code == Interrupted.exit_code:
                left.append(each.name)
            elif code:
                failed.append(f"{each.name}: exit code {code}, see {each.log}")
    if failed:
        raise SsdError("\n  ".join([f"{len(failed)} of {len(jobs)} runs failed:", *failed]))
    if left:
        raise Interrupted(f"{len(left)} runs are not finished: start the same command again")


def run(each: Job, watch: Callable[[subprocess.Popen], None]) -> int:
    """Run a job to its end; its exit code, or -N if signal N killed it. `watch` gets the process.

    It has a session of its own, so that a Ctrl-C at the terminal, which is handed on, does not
    reach it twice: the second would end it at once.
    """
    each.log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with each.log.open("a") as log:
        print(f"$ {shlex.join(each.command)}", file=log, flush=True)
        with _unwarned():
            process = subprocess.Popen(
                each.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        watch(process)
        code = process.wait()
        print(f"{ENDED} {code} after {duration(time.monotonic() - start)}", file=log)
    return code


def ending(code: int) -> str:
    """An exit code in words."""
    names = {0: "done", Interrupted.exit_code: "interrupted, all saved"}
    return names.get(code, f"failed with exit code {code}")


def duration(seconds: float) -> str:
    """Seconds as 0:02:31."""
    return str(timedelta(seconds=round(seconds)))


class _Signals:
    """Hands what should stop the sweep on to the process that is watched, as SIGTERM."""

    received = False
    _process = None

    def watch(self, process: subprocess.Popen) -> None:
        """From now on this process."""
        self._process = process
        if self.received:  # after it was started, before it was known here
            process.terminate()

    def __enter__(self) -> "_Signals":
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._old = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self.received = True
        if self._process:
            self._process.terminate()


@contextmanager
def _unwarned() -> Iterator[None]:
    """A process that is started inside never sees SIGUSR2, as it inherits what is blocked.

    SLURM sends its warning to every process of a job; only the job's own may act on it.
    """
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
