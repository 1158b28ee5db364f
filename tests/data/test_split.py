"""The split by names: stable, copies together, no part without an image."""

from pathlib import Path

import numpy as np
import pytest

from ssd_jax.data.split import image_names, split_images
from ssd_jax.errors import DataError

THREE = (0.7, 0.15, 0.15)


def paths(*names):
    return [Path(f"photographs/{name}") for name in names]


def part_of(files, fractions=THREE):
    parts = split_images(files, fractions)
    found = {files[i]: part for part, rows in parts.items() for i in rows}
    assert sum(map(len, parts.values())) == len(files) == len(found)
    return found


def test_parts_have_about_their_share():
    parts = split_images(paths(*(f"img_{i}.jpg" for i in range(2000))), THREE)
    shares = np.array([len(rows) for rows in parts.values()]) / 2000
    np.testing.assert_allclose(shares, THREE, atol=0.03)


def test_a_photograph_stays_where_it_is_when_others_are_added_or_all_are_moved():
    few, many = paths(*(f"{i}.jpg" for i in range(300))), paths(*(f"{i}.jpg" for i in range(600)))
    before, after = part_of(few), part_of(many)
    assert all(after[path] == before[path] for path in few)
    moved = part_of([Path("elsewhere") / path.name for path in few])
    assert {path.name: part for path, part in moved.items()} == {
        path.name: part for path, part in before.items()
    }


def test_copies_stay_together(tmp_path):
    roboflow = [f"cat_jpg.rf.{i:032x}.jpg" for i in range(6)]
    assert len({*part_of(paths("cat_jpg.png", *roboflow, "a.jpg", "b.jpg")).values()}) == 3
    together = part_of(paths("cat_jpg.png", *roboflow, *(f"{i}.jpg" for i in range(40))))
    assert len({together[path] for path in paths("cat_jpg.png", *roboflow)}) == 1
    files = [tmp_path / f"{i}.jpg" for i in range(40)]
    for i, path in enumerate(files):
        path.write_bytes(b"the same" if i % 2 else b"other %d" % i)
    found = part_of(files)
    assert len({found[path] for path in files[1::2]}) == 1
    assert len({found[path] for path in files[::2]}) == 3


@pytest.mark.parametrize("count", [3, 4, 5, 8, 20])
@pytest.mark.parametrize("start", range(5))
def test_each_part_has_an_image_and_half_of_its_share(count, start):
    parts = split_images(paths(*(f"{start}_{i}.jpg" for i in range(count))), THREE)
    for fraction, rows in zip(THREE, parts.values()):
        assert len(rows) >= max(1, round(count * fraction / 2))


def test_a_part_without_a_share_is_absent():
    parts = split_images(paths(*(f"{i}.jpg" for i in range(50))), (0.8, 0.2, 0.0))
    assert parts.keys() == {"train", "val"}
    assert split_images(paths("a.jpg"), (1.0, 0.0, 0.0)) == {"train": [0]}


def test_too_few_photographs_are_refused():
    with pytest.raises(DataError, match="2 different photographs cannot be split into train, val"):
        split_images(paths("a.jpg", "b.jpg", "b.png"), THREE)


def test_names_have_as_many_folders_as_they_need():
    assert image_names(paths("a.jpg", "b.jpg")) == ["a.jpg", "b.jpg"]
    assert image_names(paths("x/a.jpg", "y/a.jpg", "y/b.jpg")) == ["x/a.jpg", "y/a.jpg", "y/b.jpg"]
    assert image_names([]) == []
