import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ssd_jax.multibox import losses


def outputs(seed, priors=200, classes=5, positives=10, ignored=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros(priors, np.int32)
    chosen = rng.permutation(priors)
    labels[chosen[:positives]] = rng.integers(1, classes, positives)
    labels[chosen[positives : positives + ignored]] = -1

    def draw(*shape):
        return jnp.float32(rng.normal(size=shape) * 2)

    return draw(priors, classes), draw(priors, 4), jnp.asarray(labels), draw(priors, 4)


multibox = jax.jit(losses.multibox_loss, static_argnames=("classification", "negative_ratio"))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("positives", "ignored"), [(10, 0), (60, 30), (1, 5), (0, 0), (200, 0)])
@pytest.mark.parametrize("classification", ["softmax", "sigmoid", "sigmoid_classes", "focal"])
@pytest.mark.parametrize("negatives", ["hard", "random", "all"])
def test_meets_the_oracle(seed, positives, ignored, classification, negatives):
    arguments = outputs(seed, positives=positives, ignored=ignored)
    draws = np.random.default_rng(seed).random(200, np.float32) if negatives == "random" else None
    ratio = None if negatives == "all" else 3.0
    loss = multibox(
        *arguments, negative_ratio=ratio, classification=classification, random_scores=draws
    )
    expected = oracles.multibox_loss(*map(np.asarray, arguments), ratio, classification, draws)
    for name, value in loss._asdict().items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=1e-5, err_msg=name)


def test_by_hand():
    """One positive, three of four negatives; uniform logits cost log 2 each."""
    logits, offsets = jnp.zeros((5, 2)), jnp.zeros((5, 4))
    targets = offsets.at[0].set(jnp.float32([0.5, 0, 2, 0]))
    loss = losses.multibox_loss(logits, offsets, jnp.int32([1, 0, 0, 0, 0]), targets)
    np.testing.assert_allclose(loss.classification, 4 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(loss.localization, 0.5 * 0.25 + 1.5, rtol=1e-6)
    assert (loss.positives, loss.negatives) == (1, 3)


@pytest.mark.parametrize(("classification", "asked"), [("sigmoid", 2), ("sigmoid_classes", 1)])
def test_a_sigmoid_head_by_hand(classification, asked):
    """Columns at zero ask questions of log 2 each; a sure right answer costs nothing."""
    logits, offsets = jnp.zeros((4, 2)).at[0].set(jnp.float32([-30, 30])), jnp.zeros((4, 4))
    loss = losses.multibox_loss(
        logits, offsets, jnp.int32([1, 0, 0, 0]), offsets, classification=classification
    )
    np.testing.assert_allclose(loss.classification, 3 * asked * np.log(2), rtol=1e-6)


def test_focal_loss_by_hand():
    """A column that is half right costs alpha (1/2)^gamma log 2, one of p = 1/4 by far less."""
    logits = jnp.float32([[9, 0, np.log(1 / 3)], [9, 0, np.log(3)]])  # p = 1/2 1/4, 1/2 3/4
    found = losses.classification_losses(logits, jnp.int32([1, 0]), "focal", losses.Focal(0.25, 2))
    half = 0.25 * np.log(2)
    expected = [0.25 * half + 0.75 / 16 * np.log(4 / 3), 0.75 * (half + 9 / 16 * np.log(4))]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_focal_loss_without_power_is_the_halved_cross_entropy():
    logits, _, labels, _ = outputs(3)
    focal = losses.classification_losses(logits, labels, "focal", losses.Focal(0.5, 0.0))
    plain = losses.classification_losses(logits, labels, "sigmoid_classes")
    np.testing.assert_allclose(2 * focal, plain, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.25, 0.9])
@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_loss_has_the_gradient_of_the_oracle(alpha, gamma):
    logits, offsets, labels, targets = outputs(4, priors=12, positives=4, ignored=2)
    arrays = list(map(np.asarray, (logits, offsets, labels, targets)))

    def total(logits):
        loss = losses.multibox_loss(
            logits, offsets, labels, targets, None, "focal", losses.Focal(alpha, gamma)
        )
        return loss.classification

    def oracle(a, c, step):
        moved = arrays[0].astype(np.float64)
        moved[a, c] += step
        rest = (None, "focal", None, (alpha, gamma))
        return oracles.multibox_loss(moved, *arrays[1:], *rest)["classification"]

    gradient = jax.grad(total)(logits)
    for a, c in np.ndindex(*logits.shape):
        slope = (oracle(a, c, 1e-5) - oracle(a, c, -1e-5)) / 2e-5
        np.testing.assert_allclose(gradient[a, c], slope, rtol=1e-3, atol=1e-5)


def test_no_positives_give_zero_loss_and_finite_gradients():
    logits, offsets, labels, targets = outputs(0, positives=0)

    def total(logits, offsets):
        loss = losses.multibox_loss(logits, offsets, labels, targets)
        return loss.classification + loss.localization

    value, gradients = jax.value_and_grad(total, (0, 1))(logits, offsets)
    assert value == 0
    assert all(not np.asarray(gradient).any() for gradient in gradients)


@pytest.mark.parametrize(("classification", "gamma"), [("softmax", 0), ("focal", 0.5)])
def test_extreme_logits_stay_finite(classification, gamma):
    logits, offsets, labels, targets = outputs(1)
    form = {"classification": classification, "focal": losses.Focal(gamma=gamma)}
    loss, gradient = jax.value_and_grad(
        lambda x: losses.multibox_loss(x, offsets, labels, targets, **form).classification
    )(logits * 1e4)
    assert np.isfinite(loss) and np.isfinite(gradient).all()


def test_order_of_priors_does_not_matter():
    logits, offsets, labels, targets = outputs(2)
    order = np.random.default_rng(0).permutation(len(labels))
    plain = losses.multibox_loss(logits, offsets, labels, targets)
    other = losses.multibox_loss(logits[order], offsets[order], labels[order], targets[order])
    for a, b in zip(plain, other):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def localization(error):
    """The localization loss of one positive prior whose first offset has this error."""
    offsets = jnp.zeros((1, 4)).at[0, 0].set(error)
    logits, labels = jnp.zeros((1, 2)), jnp.ones(1, jnp.int32)
    return losses.multibox_loss(logits, offsets, labels, jnp.zeros((1, 4))).localization


def test_smooth_l1_is_smooth_at_one():
    x = jnp.float32([-2, -1, 0, 0.5, 1, 3])
    np.testing.assert_allclose([localization(each) for each in x], [1.5, 0.5, 0, 0.125, 0.5, 2.5])
    slope = jax.vmap(jax.grad(localization))(jnp.float32([0.999, 1.001, -5]))
    np.testing.assert_allclose(slope, [0.999, 1, -1], atol=1e-3)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("distinct", [1, 3, 10_000])
def test_mining_equals_a_full_sort_with_ties_by_index(seed, distinct):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 400))
    scores = (rng.integers(0, distinct, size) / 7).astype(np.float32)
    eligible = rng.random(size) < 0.8
    for count in (0, 1, size // 3, size, 2 * size):
        chosen = jax.jit(losses.hard_negatives)(scores, eligible, jnp.int32(count))
        np.testing.assert_array_equal(chosen, oracles.hard_negatives(scores, eligible, count))


def test_mining_of_tiny_and_huge_scores():
    scores = jnp.float32([0, 2e-38, 1e-37, 1, 3e38, np.inf])
    chosen = losses.hard_negatives(scores, jnp.ones(6, bool), jnp.int32(4))
    np.testing.assert_array_equal(chosen, [False, False, True, True, True, True])
