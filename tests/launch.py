"""Several real processes of one run on this machine, as a launcher starts them."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE = 300.0  # seconds after which a process counts as stuck


class Group:
    """Processes of `python -m ssd_jax.main`, each with a log of its own in `logs`.

    `arguments` are those of all; `each` adds some to those of process i. Used as a context
    manager, so that none outlives its test.
    """

    def __init__(self, logs: Path, arguments, count=2, devices=2, each=None, module="ssd_jax.main"):
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            # Compiled in half the time.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }  # fmt: skip
        port, self.logs = free_port(), []
        self.processes = []
        for index in range(count):
            command = [sys.executable, "-m", module, *map(str, arguments)]
            if count > 1:
                command += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}",
                            f"--process_id={index}"]  # fmt: skip
            command += (each or {}).get(index, [])
            self.logs.append(logs / f"{logs.name}-{time.monotonic_ns()}-{index}.log")
            with self.logs[-1].open("w") as log:
                self.processes.append(subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=log, stderr=log,
                    start_new_session=True,
                ))  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def wait(self) -> list[int]:
        """Exit codes, by process."""
        deadline = time.monotonic() + _PATIENCE
        return [process.wait(deadline - time.monotonic()) for process in self.processes]

    def wait_for(self, condition) -> None:
        """Until `condition()` holds; fails when a process ends before."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "stuck"
            ended = [process.poll() for process in self.processes]
            assert ended == [None] * len(ended), self.output()
            time.sleep(0.05)

    def output(self, index=None) -> str:
        """What a process, or all, printed."""
        logs = self.logs if index is None else [self.logs[index]]
        return "\n".join(log.read_text() for log in logs)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
