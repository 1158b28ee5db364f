"""What the values of --input name."""

import os
from pathlib import Path

import pytest

from ssd_jax.errors import ConfigError, DataError
from ssd_jax.prediction.inputs import Kind, describe_left_out, find_inputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Empty files: their names alone matter here."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/b.jpg", "in/a.PNG", "in/notes.txt", "in/README", "in/sub/a.png", "in/sub/clip.mp4",
        "in/sub/deep/x.gif", "in/sub/phone.heic", "in/more.txt", "in/.hidden.jpg", "in/.git/c.jpg",
        "in/found/b.jpg",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "in"


def names(given, output):
    return [each.name for each in find_inputs(given, output)[0]]


EVERYTHING = ["a.PNG", "b.jpg", "sub/a.png", "sub/clip.mp4", "sub/deep/x.gif"]


def test_a_folder_with_its_subfolders_but_not_what_is_hidden_or_the_output(folder):
    found, left_out = find_inputs([str(folder)], folder / "found")
    assert [each.name for each in found] == EVERYTHING
    assert [each.path for each in found] == [folder / name for name in EVERYTHING]
    assert found[3].kind is Kind.VIDEO and found[0].kind is Kind.PICTURE
    assert describe_left_out(left_out) == "2 .txt, 1 without a suffix, 1 .heic"
    assert len(names([str(folder)], folder / "elsewhere")) == len(EVERYTHING) + 1


@pytest.mark.parametrize("given", ["in", "in/", "./in", "../{here}/in"])
def test_the_current_folder_does_not_matter(folder, given):
    given = given.format(here=folder.parent.name)
    assert names([given], folder / "found") == EVERYTHING


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.jp*g", ["b.jpg"]),
        ("in/sub*/*.png", ["sub/a.png"]),
        ("in/**/*.gif", ["sub/deep/x.gif"]),
        ("in/s*", ["sub/a.png", "sub/clip.mp4", "sub/deep/x.gif"]),  # a folder
        ("in/**/b.jpg", ["b.jpg"]),  # not that of the output
        ("in/sub/phone.heic", ["phone.heic"]),  # a file that is named is tried
    ],
)
def test_globs_and_files(folder, pattern, expected):
    assert names([pattern], folder / "found") == expected


def test_a_file_of_several_inputs_is_found_once(folder):
    given = ["in/b.jpg", "in", str(folder / "sub" / ".." / "a.PNG"), "in/sub"]
    found, _ = find_inputs(given, folder / "found")
    assert [(each.given, each.name) for each in found] == [
        ("in/b.jpg", "b.jpg"), ("in", "a.PNG"),
        ("in", "sub/a.png"), ("in", "sub/clip.mp4"), ("in", "sub/deep/x.gif"),
    ]  # fmt: skip


def test_links_of_folders_are_followed_and_may_lead_in_a_circle(folder):
    (folder / "sub" / "up").symlink_to(folder)
    (folder.parent / "far").mkdir()
    (folder.parent / "far" / "z.jpg").write_bytes(b"")
    (folder / "zfar").symlink_to(folder.parent / "far")
    assert names(["in"], folder / "found") == [*EVERYTHING, "zfar/z.jpg"]


def test_a_file_with_the_characters_of_a_glob(folder):
    (folder / "[1].jpg").write_bytes(b"")
    assert names(["in/[1].jpg"], folder / "found") == ["[1].jpg"]


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert names(["~/in/b.jpg"], folder / "found") == ["b.jpg"]


def test_what_names_nothing(folder, tmp_path):
    for nothing in ("in/*.bmp", "no such folder", "in/nothing.jpg"):
        with pytest.raises(DataError, match="no such file"):
            find_inputs(["in", nothing], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"left out: 1 \.heic"):
        find_inputs(["empty"], tmp_path / "out")


@pytest.mark.parametrize("pattern", ["a" * 5000, f"x/{'a' * 5000}", f"{'a' * 5000}/*.jpg"])
def test_an_input_too_long_for_a_name_is_no_picture(tmp_path, pattern):
    with pytest.raises(DataError, match="--input=") as failure:
        find_inputs([pattern], tmp_path)
    assert len(str(failure.value)) < 400


def test_the_output_cannot_be_the_input(folder):
    for output in (folder, folder / "sub" / ".."):
        with pytest.raises(ConfigError, match="holds the input"):
            find_inputs(["in"], output)


def test_a_folder_that_cannot_be_read_is_left_out(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, left_out = find_inputs(["in"], folder / "found")
    assert [each.name for each in found] == ["a.PNG", "b.jpg"]
    assert "1 folder(s) that cannot be read" in describe_left_out(left_out)


def test_the_number_of_a_camera(folder):
    (camera,), _ = find_inputs(["0"], folder)
    assert camera.kind is Kind.CAMERA and camera.name == "camera0"
    with pytest.raises(ConfigError, match="is a camera: give no other"):
        find_inputs(["in", "0"], folder / "found")
    (folder.parent / "0").write_bytes(b"")
    assert find_inputs(["0"], folder)[0][0].kind is Kind.PICTURE


def test_results_of_an_earlier_prediction_are_left_out(folder):
    (folder / "found" / "detections.json").touch()
    found, left_out = find_inputs([str(folder)], folder / "elsewhere")
    assert [each.name for each in found] == EVERYTHING
    assert "1 folder(s) with results of a prediction" in describe_left_out(left_out)
    assert names([str(folder / "found")], folder / "elsewhere") == ["b.jpg"]
