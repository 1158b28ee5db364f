"""Joining the other processes of a run, and leaving them: the start and the end of a program."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import jax
from jax._src.clusters import ClusterEnv  # detection alone: the public call also binds to [::]

from ssd_jax.errors import ConfigError, MachineError
from ssd_jax.parallel import is_lead

_JOIN, _HEARTBEAT, _SHUTDOWN = 60, 10, 15  # seconds; by default a lost process holds all for 301
_LOST = (
    "the runtime failed, most often because another process was lost: its log says why; start again"
)
_LAST_WORDS = 2.0  # seconds the lead stays, because the others are ended as soon as it is gone


def start(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Join the other processes, before anything is computed; alone, do nothing.

    Without `coordinator` (HOST:PORT of process 0) they are those of the TPU slice, SLURM step, Open
    MPI job or Kubernetes job that JAX detects; `count` 1 does not look. Raises ConfigError when
    only some of the three are given or the cluster cannot be read.
    """
    local = None
    if coordinator is None and index is None and count != 1:
        try:
            found = ClusterEnv.auto_detect_unset_distributed_params(
                None, count, None, None, None, _JOIN
            )
        except Exception as error:  # each kind of cluster has its own errors
            raise ConfigError(f"cannot detect the cluster: {error}; see docs/pods.md") from error
        coordinator, count, index, local = found
        if "JAX_LOCAL_DEVICE_IDS" in os.environ:
            local = None  # what SLURM and Open MPI suggest, one device a process, is overruled
    if count == 1 or (coordinator, count, index) == (None, None, None):
        return
    if (
        None in (coordinator, count, index)
        or not 0 <= index < count
        or not _is_address(coordinator)
    ):
        raise ConfigError(
            "give all three or none: --coordinator=HOST:PORT (of process 0), --num_processes=N "
            f"and --process_id=0 to N - 1; there are {coordinator}, {count}, {index}"
        )
    print(
        f"process {index} of {count} waits {_JOIN} s at most for the others at {coordinator}",
        file=sys.stderr,
    )
    jax.distributed.initialize(
        coordinator, count, index, local, "deactivate", initialization_timeout=_JOIN,
        heartbeat_timeout_seconds=_HEARTBEAT, shutdown_timeout_seconds=_SHUTDOWN,
        # By default it listens on all addresses of the machine.
        coordinator_bind_address=os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", coordinator),
    )  # fmt: skip


@contextmanager
def together() -> Iterator[None]:
    """A process that fails inside leaves at once with its message last; the others soon notice.

    An orderly exit would wait for the others, who wait for this one's next step.
    """
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        code = error.code if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        if isinstance(error, jax.errors.JaxRuntimeError):
            print(_LOST, file=sys.stderr)
            code = MachineError.exit_code
        sys.stdout.flush()
        sys.stderr.flush()
        if is_lead():
            time.sleep(_LAST_WORDS)
        os._exit(code)


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 2**16
