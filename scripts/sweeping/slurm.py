"""Jobs as one array of SLURM, through submitit: stopped with all saved, and put back in the queue.

submitit is asked for only here, and need not be installed for anything else.
"""

import os
import signal
import subprocess
from ast import literal_eval
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.sweeping import launch
from ssd_jax.errors import ConfigError, Interrupted, SsdError

_WARNING = signal.SIGUSR2  # what submitit asks SLURM to send before it takes the machine away


class Requeued:
    """What submitit calls on the node, and asks for a replacement when the job must go."""

    def __call__(self, job: launch.Job) -> None:
        """Run the job. Raises SsdError when it fails."""
        code = launch.run(job, self._watch)
        if code == Interrupted.exit_code:  # it was told by SIGTERM, which submitit lets pass
            signal.raise_signal(_WARNING)
        if code:
            raise SsdError(f"{job.name}: exit code {code}, see {job.log}")

    def checkpoint(self, job: launch.Job):
        """Stop the job, wait until all is saved, and return the same job for the queue."""
        import submitit

        self._process.terminate()
        with suppress(ChildProcessError):  # it has ended
            # Without taking its exit code, for which `launch.run` is waiting below this call.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(Requeued(), job)

    def _watch(self, process: subprocess.Popen) -> None:
        self._process = process


def submit(
    jobs: Sequence[launch.Job], folder: Path, parameters: dict[str, Any], cluster: str = "slurm"
) -> list:
    """Hand the jobs over as one array; submitit's jobs come back. Its files lie in `folder`.

    `parameters` are those of submitit's `update_parameters`. `cluster` "local" runs them here.
    Raises ConfigError without submitit or SLURM, and on a parameter that is unknown.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("--launcher=slurm needs submitit: pip install submitit") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name="ssd_jax", **parameters)
        return executor.map_array(Requeued(), list(jobs))
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"SLURM cannot be asked: {error}") from error


def parameters(given: Sequence[str]) -> dict[str, Any]:
    """`["timeout_min=60", "slurm_partition=gpu"]` -> by name, numbers as numbers."""
    values = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise ConfigError(f"--slurm={each}: write NAME=VALUE, as timeout_min=60")
        try:
            values[name] = literal_eval(value)
        except (ValueError, SyntaxError):
            values[name] = value  # a word
    return values
