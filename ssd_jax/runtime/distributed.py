"""Processes: joining the other processes of a run, exchanging values, and leaving.

Several processes run one program. Each feeds its rows of every batch to its own devices, and the
main process (index 0) alone writes files. Values that all must agree on pass through
`allgather_json` and `broadcast_from_main`.
"""

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ssd_jax.config.comparison import differences, flatten_fields
from ssd_jax.errors import ConfigError, ResourceError

Tree = Any

# With JAX's defaults the others notice only after five minutes that a process was lost.
JOIN_TIMEOUT_S, HEARTBEAT_TIMEOUT_S, SHUTDOWN_TIMEOUT_S = 60, 10, 15
# The other processes are aborted as soon as the main process is gone: time for their own messages.
MAIN_EXIT_DELAY_S = 2.0
PEER_LOST_MESSAGE = (
    "the JAX runtime failed, most often because another process was lost; the log of that process "
    "says why. Start the same command again"
)
_MAX_DIFFERENCES = 16  # in one message


def initialize(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Join the other processes of the run; to be called before anything is computed.

    Args:
        coordinator: HOST:PORT of process 0. None: the processes are those of the TPU slice, SLURM
            step, Open MPI job or Kubernetes job that JAX detects; without one, do nothing.
        count: number of processes; 1 does not look for others.
        index: of this process, from 0.

    Raises:
        ConfigError: only some of the three are given, or the cluster cannot be read.
    """
    local_devices = None
    if coordinator is None and index is None and count != 1:
        coordinator, count, index, local_devices = _detect_cluster(count)
        if "JAX_LOCAL_DEVICE_IDS" in os.environ:
            local_devices = None  # overrides SLURM's and Open MPI's one device for each process
    if count == 1 or (coordinator, count, index) == (None, None, None):
        return
    if (
        None in (coordinator, count, index)
        or not 0 <= index < count
        or not _is_address(coordinator)
    ):
        raise ConfigError(
            "give all three or none: --coordinator=HOST:PORT (of process 0), --num_processes=N "
            f"and --process_id=0 to N - 1; given are {coordinator}, {count}, {index}"
        )
    print(
        f"process {index} of {count} waits at most {JOIN_TIMEOUT_S} s for the others at "
        f"{coordinator}",
        file=sys.stderr,
    )
    jax.distributed.initialize(
        coordinator, count, index, local_devices, "deactivate",
        initialization_timeout=JOIN_TIMEOUT_S,
        heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_S,
        shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_S,
        # By default it listens on all addresses of the machine.
        coordinator_bind_address=os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", coordinator),
    )  # fmt: skip


def _detect_cluster(
    count: int | None,
) -> tuple[str | None, int | None, int | None, list[int] | None]:
    """Coordinator, number of processes, index and local devices of the cluster around this one.

    JAX has no public function that only detects: `jax.distributed.initialize` detects and then
    listens on all addresses of the machine. `tests/runtime/test_distributed.py` fails where a new
    JAX moves this one.
    """
    from jax._src.clusters import ClusterEnv

    try:
        return ClusterEnv.auto_detect_unset_distributed_params(
            None, count, None, None, None, JOIN_TIMEOUT_S
        )
    except Exception as error:  # each kind of cluster has its own errors
        raise ConfigError(f"cannot detect the cluster: {error}; see docs/pods.md") from error


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) < 2**16


@contextmanager
def abort_all_on_error() -> Iterator[None]:
    """A process that fails inside exits at once, its message last; the others then notice soon.

    An orderly exit would wait for the other processes, which wait for this one's next step.
    """
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        code = error.code if isinstance(error, SystemExit) else 1
        is_peer_lost = isinstance(error, jax.errors.JaxRuntimeError)
        with suppress(OSError):  # the log's disk may be full
            if not isinstance(error, SystemExit):
                traceback.print_exc()
            if is_peer_lost:
                print(PEER_LOST_MESSAGE, file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
        if is_peer_lost:
            code = ResourceError.exit_code
        if is_main_process():
            time.sleep(MAIN_EXIT_DELAY_S)
        os._exit(code)


def is_multiprocess() -> bool:
    """Whether the run has more than one process."""
    return jax.process_count() > 1


def is_main_process() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def process_index_and_count() -> tuple[int, int]:
    """Index of this process and number of processes: which rows of each global batch it reads."""
    return jax.process_index(), jax.process_count()


def barrier(name: str) -> None:
    """Wait until all processes are here."""
    allgather_json(name)


def allgather_json(value: Any) -> list[Any]:
    """All-gather a JSON value; returns a list indexed by process."""
    if not is_multiprocess():
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = process_allgather(np.int32(len(text)))
    texts = process_allgather(np.pad(text, (0, max(lengths) - len(text))))
    return [json.loads(bytes(row[:length])) for row, length in zip(texts, lengths)]


def process_allgather(tree: Tree) -> Tree:
    """Arrays [...] of the same shape in every process -> [processes, ...]."""
    return multihost_utils.process_allgather(tree)


def broadcast_from_main(make: Callable[[], Tree], like: Tree) -> Tree:
    """What `make` returns in the main process, in every process.

    Arrays of 4 bytes a number, with the shapes and dtypes of `like`.
    """
    if not is_multiprocess():
        return make()
    tree = make() if is_main_process() else jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    # As bits: the broadcast is a sum over the processes, and -0.0 + 0.0 is another number.
    bits = jax.tree.map(lambda leaf: np.asarray(leaf).view(np.uint32), tree)
    bits = multihost_utils.broadcast_one_to_all(bits)
    return jax.tree.map(lambda leaf, x: leaf.view(x.dtype), bits, like)


def check_processes_agree(values: dict) -> None:
    """Raise ConfigError, in every process, naming the values that are not the same in all.

    `values` is a nested dict of JSON values.
    """
    first, *others = allgather_json(flatten_fields(values))
    lines = [
        f"process {index} has another {line}"
        for index, other in enumerate(others, 1)
        for line in differences(first, other)
    ]
    if lines:
        listed = "\n  ".join(lines[:_MAX_DIFFERENCES])
        raise ConfigError(f"the processes do not belong to one run (0 -> other):\n  {listed}")


def reached_preemption(step: int) -> bool:
    """Whether any process got SIGTERM: true in all of them after the same step.

    To be called after every step; no device waits for it.
    """
    return multihost_utils.reached_preemption_sync_point(step)
