import jax
import jax.numpy as jnp
import numpy as np

from configs import ssd300_vgg16_voc
from ssd_jax.optimizer import create_optimizer, learning_rate_schedule
from ssd_jax.parameter_names import parameter_names


def config(**changes):
    result = ssd300_vgg16_voc.get_config().optim
    result.update(changes)
    return result


def rates(steps, **changes):
    schedule = learning_rate_schedule(config(**changes), steps)
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


def test_decay_pulls_on_kernels_only():
    params = {
        "conv": {"kernel": jnp.ones(2), "bias": jnp.ones(2)},
        "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
    }
    transform = create_optimizer(config(learning_rate=1.0, weight_decay=0.5, warmup_steps=0), 10)
    zeros = {name: {k: v * 0 for k, v in part.items()} for name, part in params.items()}
    updates, _ = transform.update(zeros, transform.init(params), params)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.5)
    assert not any(np.any(updates[part][name]) for part, name in
                   [("conv", "bias"), ("norm", "scale"), ("norm", "bias")])  # fmt: skip


def test_momentum_by_hand():
    transform = create_optimizer(config(learning_rate=0.1, weight_decay=0.0, warmup_steps=0), 100)
    params, gradient = {"kernel": jnp.zeros(())}, {"kernel": jnp.ones(())}
    state, moved = transform.init(params), []
    for _ in range(3):
        updates, state = transform.update(gradient, state, params)
        moved.append(float(updates["kernel"]))
    np.testing.assert_allclose(moved, [-0.1, -0.19, -0.271], rtol=1e-5)


PARAMS = {
    "backbone": {
        "conv": {"kernel": jnp.ones(2), "bias": jnp.ones(2)},
        "norm": {"scale": jnp.ones(2)},
    },
    "heads": {"conv": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}},
}


def first_updates(gradient=0.0, **changes):
    """By name, the first update of parameters of one under the same gradient everywhere."""
    transform = create_optimizer(config(learning_rate=1.0, warmup_steps=0, **changes), 10)
    gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, gradient), PARAMS)
    updates, _ = transform.update(gradients, transform.init(PARAMS), PARAMS)
    names = jax.tree.leaves(parameter_names(PARAMS))
    return {name: float(leaf[0]) for name, leaf in zip(names, jax.tree.leaves(updates))}


def test_decay_pulls_on_what_the_patterns_name_and_never_on_what_is_frozen():
    pulled = first_updates(weight_decay=0.5, weight_decay_params=("*/kernel", "*norm/scale"))
    assert {name for name, update in pulled.items() if update} == {
        "backbone/conv/kernel", "backbone/norm/scale", "heads/conv/kernel",
    }  # fmt: skip
    pulled = first_updates(weight_decay=0.5, weight_decay_params=("*",), frozen=("backbone/*",))
    assert {name for name, update in pulled.items() if update} == {
        "heads/conv/kernel", "heads/conv/bias",
    }  # fmt: skip


def test_biases_step_twice_as_far_as_caffe_has_it():
    updates = first_updates(gradient=1.0, weight_decay=0.0, bias_lr_multiplier=2.0)
    assert updates["heads/conv/bias"] == -2 and updates["heads/conv/kernel"] == -1
    assert updates["backbone/norm/scale"] == -1


def test_clipping_holds_the_norm_of_all_parameters_together():
    updates = first_updates(gradient=1.0, weight_decay=0.0, clip_norm=0.5)
    np.testing.assert_allclose(
        sum(2 * value**2 for value in updates.values()) ** 0.5, 0.5, rtol=1e-5
    )


def test_rmsprop_is_tensorflows():
    """Mean squares begin at 1, epsilon is under the root, the rate enters the momentum."""
    options = config(name="rmsprop", learning_rate=0.1, weight_decay=0.0, warmup_steps=0)
    options.rmsprop.update({"decay": 0.9, "epsilon": 1.0})
    transform = create_optimizer(options, 100)
    params, gradient = {"kernel": jnp.zeros(())}, 2.0
    state, mean_square, velocity = transform.init(params), 1.0, 0.0
    for _ in range(4):
        updates, state = transform.update({"kernel": jnp.float32(gradient)}, state, params)
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        velocity = 0.9 * velocity + 0.1 * gradient / (mean_square + 1.0) ** 0.5
        np.testing.assert_allclose(updates["kernel"], -velocity, rtol=1e-5)
