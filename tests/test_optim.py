import jax.numpy as jnp
import numpy as np
import pytest

from configs import ssd300_vgg16_voc
from ssd_jax import optim
from ssd_jax.errors import ConfigError


def config(**changes):
    result = ssd300_vgg16_voc.get_config().optim
    result.update(changes)
    return result


def rates(steps, **changes):
    schedule = optim.schedule(config(**changes), steps)
    return np.array([schedule(step) for step in range(steps + 1)])


def test_step_schedule_drops_at_its_parts_of_the_run():
    rate = rates(120, learning_rate=1.0, warmup_steps=0)
    np.testing.assert_allclose(
        rate[[0, 79, 80, 99, 100, 120]], [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6
    )


def test_warmup_is_linear_and_moves_no_boundary():
    rate = rates(120, learning_rate=1.0, warmup_steps=10)
    np.testing.assert_allclose(rate[:11], np.arange(11) / 10, rtol=1e-6)
    np.testing.assert_allclose(rate[[79, 80, 100]], [1, 0.1, 0.01], rtol=1e-6)


def test_cosine_falls_to_zero_at_the_end():
    rate = rates(50, learning_rate=2.0, warmup_steps=10, schedule="cosine")
    np.testing.assert_allclose(rate[[10, 30, 50]], [2, 1, 0], atol=1e-6)
    assert (np.diff(rate[10:]) < 0).all()


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ConfigError, match="linear"):
        optim.schedule(config(schedule="linear"), 10)


def test_decay_pulls_on_kernels_only():
    params = {
        "conv": {"kernel": jnp.ones(2), "bias": jnp.ones(2)},
        "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
    }
    transform = optim.make(config(learning_rate=1.0, weight_decay=0.5, warmup_steps=0), 10)
    zeros = {name: {k: v * 0 for k, v in part.items()} for name, part in params.items()}
    updates, _ = transform.update(zeros, transform.init(params), params)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.5)
    assert not any(np.any(updates[part][name]) for part, name in
                   [("conv", "bias"), ("norm", "scale"), ("norm", "bias")])  # fmt: skip


def test_momentum_by_hand():
    transform = optim.make(config(learning_rate=0.1, weight_decay=0.0, warmup_steps=0), 100)
    params, gradient = {"kernel": jnp.zeros(())}, {"kernel": jnp.ones(())}
    state, moved = transform.init(params), []
    for _ in range(3):
        updates, state = transform.update(gradient, state, params)
        moved.append(float(updates["kernel"]))
    np.testing.assert_allclose(moved, [-0.1, -0.19, -0.271], rtol=1e-5)
