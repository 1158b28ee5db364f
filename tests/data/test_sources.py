import micro
import numpy as np
import pytest
from crowd_source import Crowd

from ssd_jax.data import sources
from ssd_jax.errors import ConfigError, DataError

CONFIG = micro.get_config()


def test_joined_sets_follow_one_another():
    first, second = (sources.make_source((f"shapes:{split}:{n}",), CONFIG) for split, n in
                     [("train", 3), ("val", 2)])  # fmt: skip
    joined = sources.make_source(("shapes:train:3", "shapes:val:2"), CONFIG)
    assert len(joined) == 5
    for index in range(5):
        expected = first[index] if index < 3 else second[index - 3]
        np.testing.assert_array_equal(joined[index]["image"], expected["image"])
        assert joined[index]["image_id"] == index
    assert joined.name(3) == second.name(0)
    assert joined.fingerprint not in (first.fingerprint, second.fingerprint)
    assert first.summary() in joined.summary() and second.summary() in joined.summary()


def check_ground_truth(source, indices):
    for index in indices:
        example, ground_truth = source[index], source.ground_truth(index)
        assert {"boxes", "labels", "flags"} <= set(ground_truth)
        for name, values in ground_truth.items():
            np.testing.assert_array_equal(values, example[name])


def test_truths_are_those_of_the_example():
    joined = sources.make_source(("shapes:train:3", "shapes:val:2"), CONFIG)
    check_ground_truth(joined, range(5))
    joined.ground_truth(4)["boxes"][:] = 0
    check_ground_truth(joined, [4])


def test_truths_of_photographs_are_those_of_the_example(real_data):
    source = sources.make_source((f"voc:{real_data / 'bccd'}:val",), CONFIG)
    check_ground_truth(source, [0, 5])
    source.ground_truth(0)["boxes"][:] = 0
    check_ground_truth(source, [0])


def test_joined_sets_must_agree_about_classes(monkeypatch):
    parts = [Crowd(), Crowd()]
    parts[1].classes = ("b",)
    monkeypatch.setattr(sources, "_open_source", lambda *_: parts.pop(0))
    with pytest.raises(DataError, match="config.data.classes"):
        sources.make_source(("x", "y"), CONFIG)


def test_joined_sets_say_that_they_have_no_annotation_file(monkeypatch):
    def summary(scoring_inputs):
        parts = [Crowd(), Crowd()]
        parts[1].scoring_inputs = scoring_inputs
        monkeypatch.setattr(sources, "_open_source", lambda *_: parts.pop(0))
        return sources.make_source(("x", "y"), CONFIG).summary()

    assert "COCO scores are computed from boxes" in summary(lambda: None)
    assert summary(None) == "crowds\ncrowds"


@pytest.mark.parametrize(
    "spec",
    ["shapes", "shapes:train", "shapes:train:many", "voc", "nope:a:b", "shapes:train:²",
     "shapes:train:-1", "shapes:train:" + "1" * 5000, "shapes:train:" + "1" * 400,
     "voc:a\0b:train", "yolo:\ud800.yaml:train", "coco:a:\0.json", "csv:a:\ud800", "tfds:\0:train"],
)  # fmt: skip
def test_a_spec_that_names_nothing_is_refused_with_an_example(spec):
    with pytest.raises(ConfigError, match="voc:FOLDER:SPLIT") as error:
        sources.make_source((spec,), CONFIG)
    assert len(str(error.value)) < 600
    str(error.value).encode()


@pytest.mark.parametrize("kind", ["voc:{}:x", "coco:{0}:{0}", "csv:{0}:{0}", "yolo:{}.yaml:x",
                                  "yolo:{0}:{0}", "tfds:{}:x", "tfds:~nobody-{}:x"])  # fmt: skip
@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000, "\udc80"])
def test_a_place_that_no_file_system_has_is_refused(kind, name):
    with pytest.raises((DataError, ConfigError)):
        sources.make_source((kind.format(name),), CONFIG)


def test_a_long_name_that_is_wrong_is_shown_whole():
    spec = "vco:" + "/a/long/path" * 12 + ":trainval"
    with pytest.raises(ConfigError, match=spec):
        sources.make_source((spec,), CONFIG)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path / "nowhere")):
        sources.make_source(("voc:~/nowhere:train",), micro.get_config())
    with pytest.raises(DataError, match=str(tmp_path / "list.csv")):
        sources.make_source(("csv:images:~/list.csv",), micro.get_config())
