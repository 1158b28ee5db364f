from pathlib import Path

import pytest

from ssd_jax.data.split_names import is_split_name, split_folder, split_word, standard_splits


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("train_labels.csv", "train"),
        ("data/labels-TEST.csv", "test"),
        ("annotations/instances_val2017.json", "val"),
        ("Valid/_annotations.coco.json", "Valid"),
        ("train/test.json", "test"),
        ("latest.csv", ""),
        ("constrain/boxes.csv", ""),
        ("trainval.json", "trainval"),
    ],
)
def test_a_split_is_a_word_of_its_own(path, word):
    assert split_word(Path(path)) == word


def test_the_last_folder_counts_and_the_file_does_not():
    assert split_folder(Path("train/images/val/a.jpg")) == "val"
    assert split_folder(Path("Train/a.jpg")) == "Train"
    assert split_folder(Path("images/train")) == split_folder(Path("test.jpg")) == ""
    assert is_split_name("VALID") and not is_split_name("trains")


def test_names_of_splits_become_three():
    assert standard_splits({"Testing": 1, "valid": 2, "train": 3, "b": 4}) == {
        "train": 3, "val": 2, "test": 1
    }  # fmt: skip
    assert standard_splits({"train": 1, "val": 2, "trainval": 3}) == {"train": 1, "val": 2}
    assert standard_splits({"val": 2, "trainval": 3, "test": 1}) == {"train": 3, "test": 1}
    assert standard_splits({"": 1}) == {}
