"""Train, val and test: named or divided, kept with a run, without files that cannot be read."""

import json

import cv2
import jax.numpy as jnp
import micro
import numpy as np
import pytest
from voc_folders import add, split, thing, xml

from ssd_jax.data import loader, sources
from ssd_jax.data.scan import Scan
from ssd_jax.data.sets import choosing_set, open_set, open_sets, scored_set
from ssd_jax.detector import build_detector, match_targets
from ssd_jax.errors import ConfigError, DataError

THREE = (0.6, 0.2, 0.2)


def photographs(root, count=20):
    """A folder whose files differ: copies of one file would stay together."""
    for i in range(count):
        add(root, f"p{i:03}", xml(thing(("dog", "cat")[i % 2])))
        pixels = np.full((80, 100, 3), i, np.uint8)
        cv2.imwrite(str(root / "JPEGImages" / f"p{i:03}.jpg"), pixels)
    return root


def config_of(root, **changes):
    changes = {"data__test": (), "data__split": THREE} | changes
    return micro.get_config(data__train=(f"voc:{root}:",), **changes)


def names(source):
    return {image.path.name for image in source.images}


def test_drawn_scenes_are_sets_by_name():
    config = micro.get_config(data__val=("shapes:val:5",))
    sets = open_sets(config)
    assert {name: len(each) for name, each in sets.by_name.items()} == {
        "train": 12, "val": 5, "test": 6,
    }  # fmt: skip
    assert sets.choosing is sets.val and sets.kept == {}
    assert (choosing_set(config), scored_set(config)) == ("val", "test")
    with pytest.raises(ConfigError, match="drawn scenes have no names"):
        open_sets(micro.get_config(data__split=(0.9, 0.1, 0.0)))


def test_without_a_validation_set_the_test_set_chooses():
    config = micro.get_config()
    assert open_sets(config).choosing.name(0).startswith("shapes/test")
    assert (choosing_set(config), scored_set(config)) == ("test", "test")
    config = micro.get_config(data__test=(), data__val=("shapes:val:5",))
    assert (choosing_set(config), scored_set(config)) == ("val", "val")
    assert open_sets(config).test is None


def test_parts_are_sets_of_their_own(tmp_path):
    config = config_of(photographs(tmp_path))
    sets = open_sets(config)
    whole = sources.make_source(config.data.train, config)
    parts = [names(source) for source in sets.by_name.values()]
    assert set.union(*parts) == names(whole) and sum(map(len, parts)) == 20
    assert len({source.fingerprint for source in sets.by_name.values()}) == 3
    for source in sets.by_name.values():
        assert source.classes == whole.classes
        for i, image in enumerate(source.images):
            original = [each.path for each in whole.images].index(image.path)
            np.testing.assert_array_equal(source[i]["image"], whole[original]["image"])
            assert source[i]["image_id"] == i
    assert "split by names of files into" in sets.notes[0]
    for name, source in sets.by_name.items():
        assert open_set(config, name).fingerprint == source.fingerprint


def test_parts_of_joined_sets(tmp_path):
    roots = [photographs(tmp_path / name, 9) for name in ("x", "y")]
    specs = tuple(f"voc:{root}:" for root in roots)
    config = micro.get_config(data__train=specs, data__test=(), data__split=THREE)
    sets = open_sets(config)
    assert sum(map(len, sets.by_name.values())) == 18
    # Equal names and equal bytes in two folders: copies.
    for source in sets.by_name.values():
        assert len(names(source)) * 2 == len(source)
    assert "x/" in json.dumps(sets.kept) or "/JPEGImages/" in json.dumps(sets.kept)
    again = open_sets(config, kept=json.loads(json.dumps(sets.kept)))
    assert [each.fingerprint for each in again.by_name.values()] == [
        each.fingerprint for each in sets.by_name.values()
    ]


def test_a_run_keeps_its_split_when_photographs_come_and_says_which_are_gone(tmp_path):
    config = config_of(photographs(tmp_path, 12))
    sets = open_sets(config)
    kept = json.loads(json.dumps(sets.kept))
    photographs(tmp_path, 15)
    again = open_sets(config, kept=kept)
    for name, source in sets.by_name.items():
        assert again.by_name[name].fingerprint == source.fingerprint
    assert "3 photographs (p012.jpg, p013.jpg, p014.jpg) left out" in again.notes[0]
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (tmp_path / folder / f"p001.{suffix}").unlink()
    with pytest.raises(DataError, match=r"1 photographs \(p001.jpg\) of this run cannot be read"):
        open_sets(config, kept=kept)


def test_a_kept_set_is_not_taken_for_another_test_set(tmp_path):
    root = photographs(tmp_path, 12)
    split(root, "a", "p001\np002\n")
    split(root, "b", "p003\n")
    split(root, "c", "p004\np005\n")
    config = micro.get_config(data__train=(f"voc:{root}:c",), data__bad="skip",
                              data__test=(f"voc:{root}:a",))  # fmt: skip
    kept = open_sets(config).kept
    other = micro.get_config(data__train=(f"voc:{root}:c",), data__bad="skip",
                             data__test=(f"voc:{root}:b",))  # fmt: skip
    assert names(open_sets(other, kept=kept).test) == {"p003.jpg"}


def test_what_cannot_be_read_is_left_out_named_and_stays_out(tmp_path):
    root = photographs(tmp_path, 12)
    bad = root / "JPEGImages" / "p003.jpg"
    whole, refusing = bad.read_bytes(), config_of(root)
    bad.write_bytes(b"no image")
    (root / "Annotations" / "p005.xml").write_text("<annotation>")
    with pytest.raises(DataError, match="p00[35]"):
        open_sets(refusing)
    config = config_of(root, data__bad="skip")
    sets = open_sets(config)
    assert sum(map(len, sets.by_name.values())) == 10
    texts = "\n".join(map(str, sets.errors["train"]))
    assert len(sets.errors["train"]) == 2 and "p003.jpg" in texts and "p005.xml" in texts
    bad.write_bytes(whole)  # a run goes on with what it began with
    again = open_sets(config, kept=json.loads(json.dumps(sets.kept)))
    assert again.train.fingerprint == sets.train.fingerprint
    assert again.errors["train"] and "1 photographs (p003.jpg) left out" in again.notes[0]


def test_what_fails_later_adds_nothing_and_shifts_no_other_sample(tmp_path, capsys):
    root = photographs(tmp_path, 12)
    config = config_of(root, data__bad="skip", data__split=(), data__test=(f"voc:{root}:",))
    scan = Scan(None, True)
    source = open_sets(config, scan).train
    before = list(loader.training_batches(source, config, 0, 6))
    bad = root / "JPEGImages" / "p003.jpg"
    bad.write_bytes(b"no image")
    after = list(loader.training_batches(source, config, 0, 6))
    detector = build_detector(config, 3)
    masked = 0
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one["image_id"], other["image_id"])
        for row, number in enumerate(one["image_id"]):
            if source.name(int(number)) == "p003.jpg":
                targets = match_targets(
                    detector, *(jnp.asarray(other[name][row]) for name in ("boxes", "labels"))
                )
                assert (np.asarray(targets.labels) == -1).all()  # neither positive nor negative
                masked += 1
            else:
                np.testing.assert_array_equal(one["image"][row], other["image"][row])
                np.testing.assert_array_equal(one["boxes"][row], other["boxes"][row])
    assert masked == 2
    (batch,) = loader.evaluation_batches(source, config, 12)
    assert batch["mask"].tolist() == [int(source.name(i) != "p003.jpg") for i in range(12)]
    assert capsys.readouterr().err.count("its samples are left out") == 1
    refusing = config_of(root, data__split=(), data__test=(f"voc:{root}:",))
    with pytest.raises(DataError, match="p003"):
        list(loader.training_batches(source, refusing, 0, 6))
    # A later start knows the size of the image, and does not become another experiment.
    again = open_sets(config, Scan(json.loads(json.dumps(scan.headers)), True))
    assert again.train.fingerprint == source.fingerprint and not again.errors["train"]


def test_parts_of_a_coco_file_are_scored_by_their_own_annotations(tmp_path):
    images = [{"id": 10 + i, "file_name": f"{i}.jpg", "width": 50, "height": 40} for i in range(9)]
    boxes = [
        {"id": i, "image_id": 10 + i, "category_id": 7, "bbox": [i, 5, 20, 20], "area": 400 + i}
        for i in range(9)
    ]
    for i in range(9):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), np.full((40, 50, 3), 20 * i, np.uint8))
    content = {"images": images, "categories": [{"id": 7, "name": "x"}], "annotations": boxes}
    (tmp_path / "a.json").write_text(json.dumps(content))
    spec = (f"coco:{tmp_path}:{tmp_path / 'a.json'}",)
    sets = open_sets(micro.get_config(data__train=spec, data__test=(), data__split=THREE))
    for source in sets.by_name.values():
        found, image_ids, _ = source.scoring_inputs()
        assert len(found["images"]) == len(found["annotations"]) == len(image_ids) == len(source)
        areas = {each["image_id"]: each["area"] for each in found["annotations"]}
        wanted = [400 + int(image.path.stem) for image in source.images]
        assert [areas[number] for number in image_ids] == wanted
