"""Epochs by the number of photographs."""

import pytest

from ssd_jax.recipe.length import BATCH_SIZE, FINE_TUNING, FROM_RANDOM, choose_epochs


def test_at_the_measured_numbers_the_length_is_the_measured_one():
    assert choose_epochs(200, FINE_TUNING) * 200 / BATCH_SIZE == 200
    assert choose_epochs(300, FROM_RANDOM) * 300 / BATCH_SIZE == pytest.approx(2500, rel=0.01)


@pytest.mark.parametrize("measured", [FINE_TUNING, FROM_RANDOM])
def test_more_photographs_are_seen_less_often_in_more_steps(measured):
    counts = [1, 2, 5, 20, 50, 100, 200, 500, 1000, 5000, 20_000]
    epochs = [choose_epochs(count, measured) for count in counts]
    steps = [-(-count * each // BATCH_SIZE) for count, each in zip(counts, epochs)]
    assert epochs == sorted(epochs, reverse=True) and epochs[-1] == measured.min_epochs
    assert steps[0] == measured.min_steps
    assert all(after > 0.95 * before for before, after in zip(steps, steps[1:]))


def test_without_photographs_there_is_a_number():
    assert choose_epochs(0, FINE_TUNING) > 0
