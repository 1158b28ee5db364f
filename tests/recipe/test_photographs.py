"""The sets of a folder: every layout that is recognized, and what its splits are for."""

import micro
import pytest
from data import test_recognize
from voc_folders import put_distinct_image, put_voc

from ssd_jax.config.validation import validate
from ssd_jax.data.sets import choosing_set, open_sets, scored_set
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.recipe.photographs import read_photographs
from ssd_jax.recipe.setting import apply_settings


def config_of(folder, number=None):
    config = micro.get_config()
    apply_settings(config, read_photographs(folder, number).settings)
    validate(config)
    return config


@pytest.mark.parametrize(
    ("write", "splits", "classes"),
    [layout[1:] for layout in test_recognize.LAYOUTS],
    ids=[layout[1].__name__ for layout in test_recognize.LAYOUTS],
)
def test_every_layout_gives_sets_that_open(tmp_path, monkeypatch, write, splits, classes):
    monkeypatch.setattr(test_recognize, "put_image", put_distinct_image)
    write(tmp_path)
    config = config_of(tmp_path)
    sets = open_sets(config)
    assert sets.train.classes == classes and choosing_set(config) == "val"
    count = sum(len(source) for source in sets.by_name.values())
    assert count == sum(map(len, splits.values()))
    assert scored_set(config) == ("test" if "test" in splits else "val")
    assert all(config.data[name] for name in splits if name != "all")


@pytest.mark.parametrize(
    ("count", "parts"), [(1, None), (2, (1, 1, 0)), (5, (3, 2, 0)), (40, (28, 6, 6))]
)
def test_photographs_that_nobody_divided(tmp_path, count, parts):
    put_voc(tmp_path, [f"photo {i}" for i in range(count)])
    config = config_of(tmp_path)
    assert config.data.bad == "skip" and config.data.classes == ("cat",)
    if parts is None:
        with pytest.raises(DataError, match="cannot be split into train, val"):
            open_sets(config)
        return
    sets = open_sets(config).by_name
    assert sum(map(len, sets.values())) == count
    assert set(sets) == {name for name, n in zip(("train", "val", "test"), parts) if n}
    assert len(sets["train"]) >= count / 2


def test_a_validation_set_is_taken_from_those_that_train(tmp_path):
    put_voc(tmp_path / "train", [f"a{i}" for i in range(40)])
    put_voc(tmp_path / "test", ["b", "c"])
    photographs = read_photographs(tmp_path)
    assert photographs.roles == "train 85 %, val 15 % of 40, test 2"
    sets = open_sets(config_of(tmp_path))
    assert len(sets.train) + len(sets.val) == 40 and len(sets.val) >= 3 and len(sets.test) == 2


def test_one_training_photograph_is_not_divided(tmp_path):
    put_voc(tmp_path / "train", ["a"])
    put_voc(tmp_path / "test", ["b", "c"])
    config = config_of(tmp_path)
    assert choosing_set(config) == scored_set(config) == "test"
    assert "chooses the best checkpoint too" in read_photographs(tmp_path).roles


def test_sets_without_one_to_train_on_are_refused(tmp_path):
    put_voc(tmp_path / "valid", ["a"])
    put_voc(tmp_path / "test", ["b"])
    with pytest.raises(DataError, match="no training set: PASCAL VOC: 2 photographs"):
        read_photographs(tmp_path)


def test_one_of_several_readings_is_chosen_by_its_number(tmp_path):
    put_voc(tmp_path / "images", ["a", "b"])
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax", "a.jpg,100,80,dog,1,1,50,50"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    with pytest.raises(ConfigError) as error:
        read_photographs(tmp_path)
    assert "2 ways: add one of these to the command\n  --reading=1  PASCAL VOC" in str(error.value)
    assert "\n  --reading=2  CSV: 1 photographs" in str(error.value)
    assert read_photographs(tmp_path, 2).reading.format == "csv"
    with pytest.raises(ConfigError, match="there is no --reading=3 of .* only\n  --reading=1"):
        read_photographs(tmp_path, 3)


def test_names_of_classes_above_the_folder_are_not_overlooked(tmp_path):
    for i in range(12):
        put_distinct_image(tmp_path / "train" / "images", f"{i}")
        label = tmp_path / "train" / "labels" / f"{i}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("0 0.5 0.5 0.4 0.4\n")
    assert read_photographs(tmp_path / "train" / "images").reading.classes == ("class0",)
    (tmp_path / "data.yaml").write_text("train: train/images\nnames: [cat]\n")
    with pytest.raises(ConfigError, match=f"data.yaml has: name the folder {tmp_path}$"):
        read_photographs(tmp_path / "train" / "images")
    assert read_photographs(tmp_path).reading.classes == ("cat",)
