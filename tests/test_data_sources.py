import micro
import numpy as np
import pytest
from test_data_loader import Crowd

from ssd_jax.data import sources
from ssd_jax.errors import ConfigError, DataError

CONFIG = micro.get_config()


def test_joined_sets_follow_one_another():
    first, second = (sources.make((f"shapes:{split}:{n}",), CONFIG) for split, n in
                     [("train", 3), ("val", 2)])  # fmt: skip
    joined = sources.make(("shapes:train:3", "shapes:val:2"), CONFIG)
    assert len(joined) == 5
    for index in range(5):
        expected = first[index] if index < 3 else second[index - 3]
        np.testing.assert_array_equal(joined[index]["image"], expected["image"])
        assert joined[index]["image_id"] == index
    assert joined.name(3) == second.name(0)
    assert joined.fingerprint not in (first.fingerprint, second.fingerprint)
    assert first.summary() in joined.summary() and second.summary() in joined.summary()


def check_truths(source, indices):
    for index in indices:
        example, truths = source[index], source.truths(index)
        assert {"boxes", "labels", "ignore"} <= set(truths)
        for name, values in truths.items():
            np.testing.assert_array_equal(values, example[name])


def test_truths_are_those_of_the_example():
    joined = sources.make(("shapes:train:3", "shapes:val:2"), CONFIG)
    check_truths(joined, range(5))
    joined.truths(4)["boxes"][:] = 0
    check_truths(joined, [4])


def test_truths_of_photographs_are_those_of_the_example(real_data):
    source = sources.make((f"voc:{real_data / 'bccd'}:val",), CONFIG)
    check_truths(source, [0, 5])
    source.truths(0)["boxes"][:] = 0
    check_truths(source, [0])


def test_joined_sets_must_agree_about_classes(monkeypatch):
    parts = [Crowd(), Crowd()]
    parts[1].classes = ("b",)
    monkeypatch.setattr(sources, "_open", lambda *_: parts.pop(0))
    with pytest.raises(DataError, match="config.data.classes"):
        sources.make(("x", "y"), CONFIG)


def test_joined_sets_say_that_they_have_no_annotation_file(monkeypatch):
    def summary(original):
        parts = [Crowd(), Crowd()]
        parts[1].original = original
        monkeypatch.setattr(sources, "_open", lambda *_: parts.pop(0))
        return sources.make(("x", "y"), CONFIG).summary()

    assert "COCO scores come from boxes" in summary(lambda: None)
    assert summary(None) == "crowds\ncrowds"


@pytest.mark.parametrize("spec", ["shapes", "shapes:train", "shapes:train:many", "voc", "nope:a:b"])
def test_a_spec_that_names_nothing_is_refused_with_an_example(spec):
    with pytest.raises(ConfigError, match="voc:FOLDER:SPLIT"):
        sources.make((spec,), CONFIG)


def test_no_set_at_all_is_refused():
    with pytest.raises(ConfigError, match=r"config\.data\.train"):
        sources.make((), CONFIG)
