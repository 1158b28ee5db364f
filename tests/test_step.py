from functools import partial

import jax
import jax.numpy as jnp
import micro
import numpy as np
import pytest

from ssd_jax import parallel, step

CLASSES = 5


def batch(rows=4, truths=8, seed=0):
    """Unequal numbers of boxes, and one image without any."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.6, (rows, truths, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (rows, truths, 2))], -1)
    labels = rng.integers(1, CLASSES, (rows, truths))
    labels[np.arange(truths) >= np.array([3, 0, 8, 1])[:rows, None]] = 0
    return {
        "image": rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8),
        "boxes": boxes.astype(np.float32),
        "labels": labels.astype(np.int32),
        "sample": np.arange(rows, dtype=np.int32),
        "image_id": np.arange(rows, dtype=np.int32),
    }


def train(runner, steps=3, config=None):
    """Parameters, batch statistics and losses after some steps on `runner`."""
    config = config or micro.get_config(optim__warmup_steps=0)
    detector = step.build(config, CLASSES, runner.axis_name)
    state = runner.replicate(step.create_state(detector))
    compiled, losses = runner.compile(partial(step.train_step, detector)), []
    for number in range(steps):
        state, metrics = compiled(state, runner.shard(batch(seed=number)))
        losses.append(runner.scalar(metrics["loss"]))
    state = jax.device_get(runner.unreplicate(state))
    assert state.step == steps
    return state, losses


@pytest.fixture(scope="module")
def on_one_device():
    return train(parallel.Pmap(jax.local_devices()[:1]))


@pytest.mark.parametrize("kind", [parallel.Pmap, parallel.Jit])
@pytest.mark.parametrize("devices", [1, 2])
def test_any_devices_train_the_same(on_one_device, kind, devices):
    expected, expected_losses = on_one_device
    state, losses = train(kind(jax.local_devices()[:devices]))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for tree in ("params", "batch_stats"):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
            getattr(state, tree), getattr(expected, tree),
        )  # fmt: skip


def test_a_run_compiles_once():
    runner = parallel.Jit()
    detector = step.build(micro.get_config(), CLASSES)
    state = runner.replicate(step.create_state(detector))
    compiled = runner.compile(partial(step.train_step, detector))
    for seed in range(3):
        state, _ = compiled(state, runner.shard(batch(seed=seed)))
    jax.block_until_ready(state)
    assert compiled._cache_size() == 1


def single(config, batch):
    """State before, state after and metrics of one step on one device."""
    detector = step.build(config, CLASSES)
    state = step.create_state(detector)
    return state, *jax.jit(partial(step.train_step, detector))(state, batch)


def test_a_batch_without_boxes_moves_nothing_and_stays_finite():
    config = micro.get_config(optim__warmup_steps=0, optim__weight_decay=0.0)
    before, after, metrics = single(config, batch() | {"labels": np.zeros((4, 8), np.int32)})
    assert metrics["loss"] == 0 and metrics["positives"] == 0
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)


def test_the_loss_is_the_sum_over_images_divided_by_all_positives():
    _, _, metrics = single(micro.get_config(), batch())
    total = metrics["image_loss"].sum() / metrics["positives"].astype(jnp.float32)
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)
    assert metrics["image_loss"][1] == 0  # the image without boxes
    assert metrics["negatives"] == 3 * metrics["positives"]


def test_it_learns_one_batch_by_heart():
    config = micro.get_config(optim__warmup_steps=0, optim__learning_rate=0.05, steps=150)
    config.augment.photometric.operations = ()
    detector = step.build(config, CLASSES)
    state = step.create_state(detector)
    compiled = jax.jit(partial(step.train_step, detector))
    losses = []
    for _ in range(150):
        state, metrics = compiled(state, batch())
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.2 * losses[0]


def test_distortion_follows_the_sample_not_its_place_in_the_batch():
    detector = step.build(micro.get_config(), CLASSES)
    images = batch()
    order = np.array([2, 0, 3, 1])
    plain = step.distorted(detector, images)
    moved = step.distorted(detector, {name: rows[order] for name, rows in images.items()})
    np.testing.assert_allclose(moved, plain[order], atol=1e-3)
    assert np.abs(np.asarray(plain) - images["image"]).max() > 1


def test_predictions_have_the_promised_shapes_and_do_not_depend_on_the_batch():
    detector = step.build(micro.get_config(), CLASSES)
    variables = step.variables(step.create_state(detector))
    images = jnp.asarray(batch()["image"])
    predict = jax.jit(partial(step.predict, detector))
    found = predict(variables, images)
    assert found.boxes.shape == (4, 10, 4) and found.labels.shape == (4, 10)
    alone = predict(variables, images[:1])
    np.testing.assert_allclose(found.scores[0], alone.scores[0], atol=1e-6)


def test_abstract_state_is_the_states_shape():
    detector = step.build(micro.get_config(), CLASSES)
    real, abstract = step.create_state(detector), step.abstract_state(detector)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), real)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract)
