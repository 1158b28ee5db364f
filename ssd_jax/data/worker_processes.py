"""Processes that read examples, where the threads of one process are too few.

They end with the process that started them, however it ends.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator

import grain
from absl import flags

from ssd_jax.errors import ResourceError


def read(dataset: grain.IterDataset, workers: int) -> Iterator:
    """The elements of a data set in their order, made by as many processes in turns.

    An error of a process is raised here. Raises ResourceError where a process is lost.
    """
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain asks for a flag, and a notebook parses none
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=1)
    elements = iter(dataset.mp_prefetch(options, worker_init_fn=_start_worker))
    try:
        yield from elements
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise ResourceError(
            f"a process that reads images was lost ({error}): give the run more memory, in "
            "/dev/shm too, or lower config.data.workers"
        ) from error
    finally:
        elements.close()


def _start_worker(index: int, count: int) -> None:
    """Tie this process to the life of the one that started it."""
    # A signal to all processes is for the trainer, which needs more data to end well.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
