import functools
from functools import partial

import jax
import jax.numpy as jnp
import micro
import numpy as np
import pytest

from ssd_jax import train_step as train_step_module
from ssd_jax.detector import (
    build_detector,
    jitter_colors,
    match_targets,
    normalize_images,
    predict,
)
from ssd_jax.errors import ConfigError
from ssd_jax.multibox.losses import multibox_loss
from ssd_jax.runtime import devices
from ssd_jax.train_step import abstract_state, inference_variables, init_state, train_step

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
    detector = build_detector(config, CLASSES, runner.axis_name)
    state = runner.replicate(init_state(detector))
    compiled, losses = runner.compile(partial(train_step, detector)), []
    for number in range(steps):
        state, metrics = compiled(state, runner.shard(batch(seed=number)))
        losses.append(runner.scalar(metrics["loss"]))
    state = jax.device_get(runner.unreplicate(state))
    assert state.step == steps
    return state, losses


@pytest.fixture(scope="module")
def on_one_device():
    return train(devices.Pmap(jax.local_devices()[:1]))


@pytest.mark.parametrize("kind", [devices.Pmap, devices.Jit])
@pytest.mark.parametrize("count", [1, 2])
def test_any_devices_train_the_same(on_one_device, kind, count):
    expected, expected_losses = on_one_device
    state, losses = train(kind(jax.local_devices()[:count]))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for tree in ("params", "batch_stats"):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
            getattr(state, tree), getattr(expected, tree),
        )  # fmt: skip


@pytest.mark.parametrize("kind", [devices.Pmap, devices.Jit])
@pytest.mark.parametrize("count", [1, 2])
def test_norms_of_two_images_are_the_same_on_any_devices(kind, count):
    config = micro.get_config(model__norm_batch_size=2)
    state, losses = train(kind(jax.local_devices()[:count]), steps=1, config=config)
    detector, start, _ = one_device()
    images = normalize_images(detector, jitter_colors(detector, batch()))
    variables = {"params": start.params, "batch_stats": start.batch_stats}
    halves = [
        detector.model.apply(variables, half, train=True, mutable=["batch_stats"])
        for half in (images[:2], images[2:])
    ]
    targets = jax.vmap(partial(match_targets, detector))(batch()["boxes"], batch()["labels"])
    logits, offsets = (jnp.concatenate([half[0][i] for half in halves]) for i in (0, 1))
    loss = jax.vmap(multibox_loss)(logits, offsets, *targets)
    total = float((loss.classification + loss.localization).sum())
    expected = total / int(loss.positives.sum())
    np.testing.assert_allclose(losses[0], expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b, new: np.testing.assert_allclose(new, (a + b) / 2, rtol=1e-5, atol=1e-6),
        *[half[1]["batch_stats"] for half in halves], state.batch_stats,
    )  # fmt: skip


def test_norms_need_groups_that_divide_the_images_of_a_device():
    with pytest.raises(ConfigError, match=r"norm_batch_size=4 does not divide the 2 images.*try 2"):
        devices.check_batch_size(4, 4)
    devices.check_batch_size(4, 2)


def test_a_run_compiles_once():
    runner = devices.Jit()
    detector = build_detector(micro.get_config(), CLASSES)
    state = runner.replicate(init_state(detector))
    compiled = runner.compile(partial(train_step, detector))
    for seed in range(3):
        state, _ = compiled(state, runner.shard(batch(seed=seed)))
    jax.block_until_ready(state)
    assert compiled._cache_size() == 1


@functools.cache
def one_device(**changes):
    """Detector, first state and compiled step of the micro config with these changes."""
    detector = build_detector(micro.get_config(**changes), CLASSES)
    return detector, init_state(detector), jax.jit(partial(train_step, detector))


def single(batch, **changes):
    """State before, state after and metrics of one step on one device."""
    _, state, compiled = one_device(**changes)
    return state, *compiled(state, batch)


def test_a_batch_without_boxes_moves_nothing_and_stays_finite():
    empty = batch() | {"labels": np.zeros((4, 8), np.int32)}
    before, after, metrics = single(empty, optim__warmup_steps=0, optim__weight_decay=0.0)
    assert metrics["loss"] == 0 and metrics["positives"] == 0
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)


def test_the_loss_is_the_sum_over_images_divided_by_all_positives():
    _, _, metrics = single(batch())
    total = metrics["per_image_loss"].sum() / metrics["positives"].astype(jnp.float32)
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)
    assert metrics["per_image_loss"][1] == 0  # the image without boxes
    assert metrics["negatives"] == 3 * metrics["positives"]


def test_all_negatives_are_all_priors_without_a_box():
    _, _, metrics = single(batch(), loss__classification="focal", loss__negatives="all")
    priors = len(build_detector(micro.get_config(), CLASSES).priors.boxes)
    assert metrics["positives"] and metrics["negatives"] == 4 * priors - metrics["positives"]
    assert metrics["per_image_loss"][1] > 0  # the image without boxes teaches too


def test_a_mean_per_image_gives_few_boxes_as_much_weight_as_many():
    _, _, metrics = single(batch(), loss__normalizer="image")
    detector = build_detector(micro.get_config(), CLASSES)
    targets = jax.vmap(partial(match_targets, detector))(batch()["boxes"], batch()["labels"])
    positives = np.maximum(np.asarray(targets.labels > 0).sum(1), 1)
    assert len(set(positives)) > 2
    expected = (np.asarray(metrics["per_image_loss"]) / positives).mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


OPTIONS = {
    "loss__classification": "sigmoid", "loss__negatives": "random", "loss__normalizer": "image",
    "matching__negative_threshold": 0.3, "optim__name": "rmsprop", "optim__learning_rate": 0.01,
    "optim__ema_decay": 0.9, "optim__bias_lr_multiplier": 2.0, "optim__clip_norm": 1.0,
    "optim__frozen": ("*/stem/*", "*/stem_norm/*"), "optim__warmup_steps": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    "other", [{}, {"loss__classification": "focal", "loss__negatives": "all"}], ids=["", "focal"]
)
def test_with_every_option_turned_any_devices_train_the_same(other):
    config = micro.get_config(**OPTIONS | other)
    expected, expected_losses = train(devices.Pmap(jax.local_devices()[:1]), config=config)
    state, losses = train(devices.Pmap(), config=config)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), state.ema, expected.ema)
    initial = init_state(build_detector(config, CLASSES))
    for tree in ("params", "batch_stats"):
        old, new = (getattr(each, tree)["backbone"] for each in (initial, state))
        for layer in ("stem", "stem_norm"):  # frozen, and the norm keeps its statistics
            jax.tree.map(np.testing.assert_array_equal, old.get(layer), new.get(layer))
        moved = jax.tree.map(np.array_equal, old["level0_down_norm"], new["level0_down_norm"])
        assert not any(jax.tree.leaves(moved))


def test_the_average_forgets_fast_at_first_and_is_what_is_evaluated():
    before, after, _ = single(batch(), optim__ema_decay=0.9, optim__warmup_steps=0)
    averaged = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, before.params, after.params)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), after.ema["params"], averaged
    )
    assert inference_variables(after) is after.ema


def test_an_average_without_warmup_begins_at_the_first_parameters():
    options = {"optim__ema_decay": 0.9, "optim__ema_warmup": False, "optim__warmup_steps": 0}
    before, after, _ = single(batch(), **options)
    averaged = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, before.params, after.params)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), after.ema["params"], averaged
    )


def test_random_negatives_follow_the_sample_and_the_step():
    changes = {"loss__negatives": "random", "augment__photometric__operations": ()}
    again = batch() | {"sample": np.arange(4, 8, dtype=np.int32)}
    losses = [float(single(each, **changes)[2]["cls_loss"]) for each in (batch(), again)]
    assert losses[0] != losses[1]


def test_bfloat16_keeps_parameters_losses_and_outputs_in_float32():
    config = micro.get_config(model__dtype="bfloat16", optim__warmup_steps=0)
    detector = build_detector(config, CLASSES)
    state, metrics = jax.eval_shape(
        partial(train_step, detector), abstract_state(detector), batch()
    )
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state, metrics))}
    assert jnp.bfloat16 not in dtypes
    jaxpr = str(jax.make_jaxpr(partial(predict, detector))(
        inference_variables(abstract_state(detector)), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    ))  # fmt: skip
    assert "bf16" in jaxpr


@pytest.mark.parametrize("broken", ["params", "batch_stats"])
def test_a_step_that_is_not_finite_changes_nothing(broken):
    _, state, compiled = one_device(optim__ema_decay=0.9, optim__warmup_steps=0)

    def spoil(leaf):
        return leaf.at[...].set(jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    state = state.replace(**{broken: jax.tree.map(spoil, getattr(state, broken))})
    after, metrics = compiled(state, batch())
    assert (after.step, after.skipped, metrics["consecutive_skipped"]) == (1, 1, 1)
    jax.tree.map(np.testing.assert_array_equal, after.ema, state.ema)
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


def test_it_learns_one_batch_by_heart():
    config = micro.get_config(optim__warmup_steps=0, optim__learning_rate=0.05, steps=150)
    config.augment.photometric.operations = ()
    detector = build_detector(config, CLASSES)
    state = init_state(detector)
    compiled = jax.jit(partial(train_step, detector))
    losses = []
    for _ in range(150):
        state, metrics = compiled(state, batch())
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.2 * losses[0]


def test_distortion_follows_the_sample_not_its_place_in_the_batch():
    detector = build_detector(micro.get_config(), CLASSES)
    images = batch()
    order = np.array([2, 0, 3, 1])
    plain = jitter_colors(detector, images)
    moved = jitter_colors(detector, {name: rows[order] for name, rows in images.items()})
    np.testing.assert_allclose(moved, plain[order], atol=1e-3)
    assert np.abs(np.asarray(plain) - images["image"]).max() > 1


def test_predictions_have_the_promised_shapes_and_do_not_depend_on_the_batch():
    detector = build_detector(micro.get_config(), CLASSES)
    variables = inference_variables(init_state(detector))
    images = jnp.asarray(batch()["image"])
    compiled = jax.jit(partial(predict, detector))
    found = compiled(variables, images)
    assert found.boxes.shape == (4, 10, 4) and found.labels.shape == (4, 10)
    alone = compiled(variables, images[:1])
    np.testing.assert_allclose(found.scores[0], alone.scores[0], atol=1e-6)


def test_abstract_state_is_the_states_shape():
    detector = build_detector(micro.get_config(), CLASSES)
    real, abstract = init_state(detector), abstract_state(detector)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), real)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract)


def test_the_reported_rate_is_the_one_that_was_used_also_after_a_skipped_step(monkeypatch):
    """Without momentum and decay an update is the rate times the gradient."""
    losses_of = train_step_module.per_image_losses

    def poisoned(detector, logits, offsets, targets, samples):
        loss = losses_of(detector, logits, offsets, targets, samples)
        return loss._replace(localization=jnp.where(samples < 0, jnp.inf, loss.localization))

    monkeypatch.setattr(train_step_module, "per_image_losses", poisoned)
    config = {"optim__warmup_steps": 10, "optim__momentum": 0.0, "optim__weight_decay": 0.0,
              "optim__clip_norm": 0.0, "steps": 20, "optim__learning_rate": 0.5}  # fmt: skip
    _, state, compiled = one_device(**config)
    bad = batch() | {"sample": np.full(4, -1, np.int32)}
    rates, used = [], []
    for each in (batch(), bad, bad, batch(seed=1), batch(seed=2)):
        before = jax.device_get(state.params)
        state, metrics = compiled(state, each)
        change = jax.tree.map(np.subtract, jax.device_get(state.params), before)
        norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(change)))
        rates.append(float(metrics["learning_rate"]))
        used.append(0.05 if norm == 0 and rates[-1] else norm / float(metrics["gradient_norm"]))
    assert int(state.skipped) == 2
    np.testing.assert_allclose(rates, np.float32([0, 0.05, 0.05, 0.05, 0.1]), rtol=1e-5)
    np.testing.assert_allclose(used, rates, rtol=1e-2)
