import os

import pytest

from ssd_jax.data.folder import is_image, list_files, locate_images
from ssd_jax.errors import DataError


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_files_are_listed_once_and_without_foreign_ones(tmp_path):
    put(tmp_path, "b/a.JPG", "a.jpg", ".hidden", ".git/a.jpg", "__MACOSX/a.jpg", "Thumbs/a.jpg",
        "b/@eaDir/a.jpg", "Icon\r")  # fmt: skip
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path / "b")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    found = [str(path.relative_to(tmp_path)) for path in list_files(tmp_path)]
    assert found == ["Icon\r", "a.jpg", "b/a.JPG", "gone.jpg"]
    assert [is_image(path) for path in list_files(tmp_path)] == [False, True, True, True]


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot read the folder"):
        list_files(tmp_path / "nowhere")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    if os.geteuid():
        with pytest.raises(DataError, match="closed: cannot read the folder"):
            list_files(tmp_path)


def test_images_are_located_by_path_then_by_name(tmp_path):
    put(tmp_path, "a.jpg", "x/a.jpg", "x/b.JPG", "y/c.png", "z/c.png", "z/d.png")
    lost = ["old/c.png", "old/e.png", "\0", ""]
    names = ["a.jpg", "x/a.jpg", "old/b.jpg", "C:\\old\\b.jpg", "d", *lost]
    found = locate_images(tmp_path, dict(enumerate(names)))
    expected = ["a.jpg", "x/a.jpg", "x/b.JPG", "x/b.JPG", "z/d.png", *lost]
    assert list(found.values()) == [tmp_path / name for name in expected]
    nowhere = tmp_path / "nowhere"
    assert locate_images(nowhere, {1: "a.jpg"}) == {1: nowhere / "a.jpg"}
