"""Workers read the same stream, and live as long as the process that needs them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import micro
import numpy as np
import pytest

from ssd_jax.data import loader, sources
from ssd_jax.data.annotated_image import AnnotatedImage, ImageFileSource
from ssd_jax.errors import DataError, ResourceError

ROOT = Path(__file__).resolve().parents[2]
TRAINER = """
import multiprocessing, os, signal, sys, time
import micro
from ssd_jax.data import loader, sources
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = micro.get_config(batch_size=4, data__workers=2)
    source = sources.make_source(("shapes:train:10",), config)
    batches = loader.training_batches(source, config, 0, 1000)
    for _ in range(4):
        next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    for _ in sys.stdin:
        for _ in range(8):
            next(batches)
        print("read", flush=True)
"""


def take(first, last, workers, process=(0, 1)):
    config = micro.get_config(batch_size=4, data__workers=workers)
    source = sources.make_source(("shapes:train:10",), config)
    return list(loader.training_batches(source, config, first, last, process))


def test_workers_read_the_same_stream_from_any_step():
    expected = take(0, 5, 0)
    for found, wanted in ((take(0, 5, 2), expected), (take(3, 5, 1), expected[3:])):
        assert len(found) == len(wanted)
        for batch, other in zip(found, wanted):
            assert batch.keys() == other.keys()
            for name in other:
                assert batch[name].dtype == other[name].dtype
                np.testing.assert_array_equal(batch[name], other[name])


def test_an_error_in_a_worker_names_the_file(tmp_path):
    boxes, labels, flags = np.float32([[0, 0, 1, 1]]), np.int32([1]), np.int8([0])
    image = AnnotatedImage(tmp_path / "lost.jpg", (20, 20), boxes, labels, flags, {})
    source = ImageFileSource("drawn", "all", ("a",), [image])
    with pytest.raises(DataError, match=r"lost\.jpg"):
        next(loader.training_batches(source, micro.get_config(data__workers=1), 0, 1))


@pytest.fixture
def trainer():
    """A process that reads with two workers, and their process ids."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER], env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        workers = [int(number) for number in process.stdout.readline().split()]
        yield process, workers
        process.kill()


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc for processes")
def test_workers_end_with_a_killed_trainer(trainer):
    process, workers = trainer
    assert len(workers) == 2 and all(map(is_running, workers))
    process.kill()
    for _ in range(300):
        if not any(map(is_running, workers)):
            break
        time.sleep(0.1)
    assert not any(map(is_running, workers))


def test_a_signal_to_all_processes_leaves_the_trainer_its_data(trainer):
    process, _ = trainer
    os.killpg(process.pid, signal.SIGTERM)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "read\n"
    process.stdin.close()
    assert process.wait() == 0


def test_a_lost_worker_is_an_error_that_says_so():
    import multiprocessing

    config = micro.get_config(batch_size=4, data__workers=1)
    source = sources.make_source(("shapes:train:10",), config)
    batches = loader.training_batches(source, config, 0, 1000)
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(ResourceError, match=r"was lost .* lower config\.data\.workers"):
        for _ in batches:
            pass
