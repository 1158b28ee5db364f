import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.checkpoint import Checkpoints
from ssd_jax.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[1]


def state(value: float):
    return {"step": jnp.int32(value), "params": {"kernel": jnp.full((3, 2), value, jnp.float32)}}


def test_a_state_comes_back_bit_equal_with_its_dtypes(tmp_path):
    original = {
        "a": jnp.float32(np.random.default_rng(0).normal(size=(5, 3))),
        "b": {"c": jnp.arange(4, dtype=jnp.int32), "empty": {}},
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(original, 7)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 7
        restored = checkpoints.restore("latest", original)
    assert restored["b"]["c"].dtype == jnp.int32
    np.testing.assert_array_equal(restored["a"], original["a"])
    np.testing.assert_array_equal(restored["b"]["c"], original["b"]["c"])


def test_the_newest_two_are_kept_and_the_best_beside_them(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, score in enumerate([0.1, 0.5, float("nan"), 0.2, float("nan")], start=1):
            checkpoints.save(state(step), step)
            checkpoints.save_if_best(state(step), step, score)
        assert checkpoints.best_score() == 0.5
    with Checkpoints(tmp_path, create=False) as checkpoints:
        assert checkpoints.restore("best", state(0))["step"] == 2
        assert checkpoints.restore("4", state(0))["step"] == 4
        assert checkpoints.latest_step() == 5
        with pytest.raises(CheckpointError, match="no checkpoint '1'"):
            checkpoints.restore("1", state(0))


def test_a_nan_is_never_best_even_as_the_first(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert not checkpoints.save_if_best(state(1), 1, float("nan"))
        assert checkpoints.save_if_best(state(2), 2, 0.0)
        assert not checkpoints.save_if_best(state(3), 3, 0.0)


def test_what_is_saved_does_not_follow_later_changes(tmp_path):
    array = np.ones((4, 4), np.float32)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save({"a": array}, 1)
        array[:] = 9
    with Checkpoints(tmp_path) as checkpoints:
        assert (np.asarray(checkpoints.restore("latest", {"a": array})["a"]) == 1).all()


def test_another_shape_is_refused_with_the_place(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(1), 1)
        other = {"step": jnp.int32(0), "params": {"kernel": jnp.zeros((9, 9))}}
        with pytest.raises(
            CheckpointError,
            match=r"latest/1 .*params.kernel is float32\[3, 2\], expected float32\[9, 9\]",
        ):
            checkpoints.restore("latest", other)


def test_words_that_are_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="newest"):
        checkpoints.restore("newest", state(0))
    with pytest.raises(CheckpointError, match="no checkpoints"):
        Checkpoints(tmp_path / "nowhere", create=False)


def test_before_the_first_evaluation_the_latest_is_the_best(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), 3)
        assert checkpoints.restore("best", state(0))["step"] == 3


def test_a_reader_leaves_the_save_of_a_live_run_alone(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(1), 1)
    unfinished = tmp_path / "latest" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with Checkpoints(tmp_path, create=False) as checkpoints:
        assert checkpoints.restore("latest", state(0))["step"] == 1
    assert unfinished.is_dir()
    with Checkpoints(tmp_path):  # the next start of the run clears it, in the background
        for _ in range(100):
            if not unfinished.exists():
                break
            time.sleep(0.1)
    assert not unfinished.exists()


FULL_DISK = """
import pathlib, resource, signal, sys
import numpy as np
from ssd_jax import cli
from ssd_jax.checkpoint import Checkpoints

def main():
    with Checkpoints(pathlib.Path(sys.argv[1])) as checkpoints:
        checkpoints.save({"a": np.ones(9, np.float32)}, 1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        noise = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
        checkpoints.save({"a": noise}, 2)

cli.guarded(main)
"""


def test_a_full_disk_ends_with_its_exit_code_and_keeps_the_last_save(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 6, result.stderr
    assert "cannot write checkpoints" in result.stderr
    assert result.stderr.strip().endswith("older checkpoints are intact")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 1
        like = {"a": np.ones(9, np.float32)}
        np.testing.assert_array_equal(checkpoints.restore("latest", like)["a"], like["a"])
