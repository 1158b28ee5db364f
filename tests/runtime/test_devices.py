from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.errors import ConfigError
from ssd_jax.runtime import devices

RUNNERS = [devices.Pmap, devices.Jit]


@pytest.mark.parametrize("kind", RUNNERS)
def test_what_is_replicated_comes_back(kind):
    runner, tree = kind(), {"a": np.arange(6.0).reshape(2, 3), "b": jnp.int32(7)}
    back = runner.unreplicate(runner.replicate(tree))
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert back["b"] == 7 and back["b"].shape == ()
    assert runner.scalar(runner.replicate(tree)["b"]) == 7


@pytest.mark.parametrize("kind", RUNNERS)
def test_rows_come_back_in_order(kind):
    runner = kind()
    batch = {"x": np.arange(24, dtype=np.float32).reshape(8, 3)}
    predict = runner.compile_predict(lambda scale, x: {"y": x * scale})
    result = runner.to_host(predict(runner.replicate(jnp.float32(2)), runner.shard(batch)["x"]))
    np.testing.assert_array_equal(result["y"], 2 * batch["x"])


@pytest.mark.parametrize("kind", RUNNERS)
def test_a_step_gives_up_its_state_and_nobody_elses(kind):
    runner = kind()
    host = np.ones(4, np.float32)

    def step(state, batch):
        total = batch["x"].sum()
        if runner.axis_name:
            total = jax.lax.psum(total, runner.axis_name)
        return state + total, {"total": total}

    compiled, state = runner.compile(step), runner.replicate(host)
    batch = runner.shard({"x": np.ones(4, np.float32)})
    old = state
    for _ in range(3):
        state, metrics = compiled(state, batch)
    assert old.is_deleted()
    np.testing.assert_array_equal(runner.unreplicate(state), 1 + 3 * 4)
    assert runner.scalar(metrics["total"]) == 4
    np.testing.assert_array_equal(host, 1)


def test_memory_is_the_fullest_devices_or_unknown(monkeypatch):
    assert devices.peak_memory_gib() is None  # as a CPU has it
    stats = [{"peak_bytes_in_use": 2**30, "bytes_in_use": 0}, {"peak_bytes_in_use": 3 * 2**29}]
    local = [SimpleNamespace(memory_stats=lambda own=own: own) for own in stats]
    monkeypatch.setattr(jax, "local_devices", lambda: local)
    assert devices.peak_memory_gib() == 1.5


def test_a_batch_must_divide_in_training_and_is_filled_up_elsewhere():
    with pytest.raises(ConfigError, match="batch_size=7 does not divide over 2 devices; try 8"):
        devices.check_batch_size(7)
    devices.check_batch_size(8)
    assert [devices.round_up_to_device_count(rows) for rows in (1, 2, 7)] == [2, 2, 8]
