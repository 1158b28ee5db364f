"""Jobs as one SLURM array, through submitit: a job that is preempted saves and is requeued.

submitit is imported only here, and is needed for nothing else.
"""

import os
import signal
import subprocess
from ast import literal_eval
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssd_jax.errors import ConfigError, Interrupted, SsdError
from ssd_jax.sweeps import launch

_WARNING = signal.SIGUSR2  # sent by SLURM, at submitit's request, before a job must end


class RequeuingTask:
    """The function that submitit calls on the node, and its hook for a job that must end."""

    def __call__(self, job: launch.Job) -> None:
        """Run the job. Raises SsdError when it fails."""
        code = launch.run_job(job, self._on_start)
        if code == Interrupted.exit_code:  # by SIGTERM, upon which submitit does nothing
            signal.raise_signal(_WARNING)
        if code:
            raise SsdError(f"{job.name}: exit code {code}, see {job.log}")

    def checkpoint(self, job: launch.Job):
        """Stop the job, wait until it has saved, and return it as a job for the queue."""
        import submitit

        self._process.terminate()
        with suppress(ChildProcessError):  # it has ended
            # Leaves the exit code to `launch.run_job`, which waits for it below this call.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(RequeuingTask(), job)

    def _on_start(self, process: subprocess.Popen) -> None:
        self._process = process


def submit(
    jobs: Sequence[launch.Job], folder: Path, parameters: dict[str, Any], cluster: str = "slurm"
) -> list:
    """Submit the jobs as one array; returns submitit's jobs. Its files are in `folder`.

    `parameters` are those of submitit's `update_parameters`; `cluster` "local" runs the jobs on
    this machine. Raises ConfigError without submitit or SLURM, and for an unknown parameter.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("--launcher=slurm needs submitit: pip install submitit") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name="ssd_jax", **parameters)
        return executor.map_array(RequeuingTask(), list(jobs))
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"submitting to SLURM failed: {error}") from error


def parse_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """`["timeout_min=60", "slurm_partition=gpu"]` -> values by name, numbers as numbers.

    Raises ConfigError for a text without "=".
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--slurm={text}: write NAME=VALUE, as timeout_min=60")
        try:
            values[name] = literal_eval(value)
        except (ValueError, SyntaxError):
            values[name] = value  # plain text, as gpu
    return values
