import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.checkpoint import Checkpoints
from ssd_jax.errors import CheckpointError


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
