"""Files that cannot be read are named; a file is known by any spelling of its path."""

import json
import os
import threading
from pathlib import Path

import pytest
from image_files import write_image

from ssd_jax.data import decode, files
from ssd_jax.data.checks.dataset import check_dataset
from ssd_jax.data.formats import yolo
from ssd_jax.data.messages import join_truncated, printable, shorten
from ssd_jax.errors import DataError


def read_annotations(path):
    return files.read_text(path, "the list")


READERS = (decode.read_image, decode.read_header, decode.size_and_mtime, read_annotations)


@pytest.fixture
def pipe(tmp_path):
    """A named pipe. Whoever opens it for reading finds it empty, and does not wait."""
    path = tmp_path / "a.jpg"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: open(path, "wb").close())
    writer.start()
    yield path
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.join()
    os.close(reader)


@pytest.mark.parametrize("read", READERS)
def test_a_pipe_is_not_waited_for(pipe, read):
    with pytest.raises(DataError, match=r"a\.jpg: cannot read .* \(not a regular file\)"):
        read(pipe)


@pytest.mark.parametrize("read", READERS)
def test_what_cannot_be_opened_is_named(tmp_path, read):
    (tmp_path / "folder.jpg").mkdir()
    for name in ("folder.jpg", "none.jpg", "a" * 300 + ".jpg", "zero\0byte.jpg", "half\ud800.jpg"):
        with pytest.raises(DataError, match=f"{tmp_path}/.*: cannot read") as error:
            read(tmp_path / name)
        assert printable(name) in str(error.value) or shorten(name)[1:-1] in str(error.value)
        str(error.value).encode()


def test_lines_end_where_editors_end_them(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa\r\nb\rc\n\n é\x85x\u2028y ".encode())
    assert files.read_lines(path, "the list") == ["a", "b", "c", "", "é\x85x\u2028y"]
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="list.txt: cannot read the list .*utf-8"):
        files.read_lines(path, "the list")


def test_spellings_of_a_path(tmp_path, monkeypatch):
    for folder in ("images", "others"):
        (tmp_path / folder).mkdir()
    (tmp_path / "link").symlink_to("images")
    (tmp_path / "images" / "copy.jpg").symlink_to("a.jpg")
    monkeypatch.chdir(tmp_path)
    spellings = ["images/a.jpg", "./images/a.jpg", "images/../images/a.jpg", "link/a.jpg",
                 str(tmp_path / "images" / "a.jpg"), "images//a.jpg"]  # fmt: skip
    other = ["others/a.jpg", "images/copy.jpg", "images/b.jpg", "images/A.jpg", "a\0/b.jpg"]
    paths = {text: Path(text) for text in spellings + other}
    repeats = files.repeated_files(paths)
    assert repeats == dict.fromkeys(spellings[1:], spellings[0])


def test_a_name_that_is_not_utf8_is_read_and_shown(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    write_image(tmp_path / name, orientation=6)
    (tmp_path / "names.txt").write_text("dog\n")
    source = yolo.read(tmp_path, str(tmp_path / "names.txt"))
    assert source[0]["size"] == (100, 80)
    assert "as viewers show them ('caf\\udce9')" in source.summary()
    report = check_dataset(source.images, source.classes, [], None, (80, 100))
    json.dumps(report, ensure_ascii=False).encode()


def test_values_in_messages_are_short():
    bomb = ["x"] * 9
    for _ in range(9):
        bomb = [bomb] * 9
    for value in (bomb, "x" * 5000, 10**4000, {"a": bomb}, [[[[1]]]], "\ud800\0"):
        assert len(shorten(value)) < 300
        shorten(value).encode()
    assert shorten([1, None, "x"]) == "[1, None, 'x']"
    assert printable("bild é 图.jpg") == "bild é 图.jpg"
    assert join_truncated(list("abcdefg"), ", ") == "a, b, c, d, e, and 2 more"
