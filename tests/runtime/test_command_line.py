"""Arguments before absl sees them."""

import pytest

from ssd_jax.runtime import command_line


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--config.data.train=voc:a:train", "--config.data.train=('voc:a:train',)"),
        ("-config.data.test=voc:a,b:test", "--config.data.test=('voc:a,b:test',)"),
        ("--config.data.classes=cat, dog", "--config.data.classes=('cat', 'dog')"),
        ("--config.data.classes=cat", "--config.data.classes=('cat',)"),
        ("--config.optim.frozen=backbone/*", "--config.optim.frozen=('backbone/*',)"),
        ("--config.augment.geometric=flip", "--config.augment.geometric=('flip',)"),
    ],
)
def test_a_text_is_taken_where_a_tuple_of_one_is_meant(argument, expected):
    assert command_line._with_tuples([argument]) == [expected]


@pytest.mark.parametrize(
    "argument",
    [
        "--config.data.train=('voc:a:train',)", "--config.data.classes=()", "--config.steps=3",
        "--config.init.source=runs/coco", "--config.data.classes=", "--config.data.train= ",
        "--config.image_size=300", "--config.data.train", "--config.model.backbone.kind=x",
        "--config.augment.geometric=rotate", "voc:a:train", "--workdir=a",
    ],
)  # fmt: skip
def test_any_other_argument_stays(argument):
    assert command_line._with_tuples([argument]) == [argument]
