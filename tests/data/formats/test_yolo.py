import cv2
import micro
import numpy as np
import pytest

from ssd_jax.data import sources
from ssd_jax.data.formats import yolo
from ssd_jax.data.scan import Scan
from ssd_jax.errors import ConfigError, DataError

NAMES = "names: [cat, dog]\n"


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 50, 3), 90, np.uint8))


def write(folder, files, text="train: images/train\nval: images/val\n" + NAMES):
    """Images of 50 x 40 and their label files: `files` is path below images/ -> lines, or None."""
    for name, lines in files.items():
        picture(folder / "images" / name)
        if lines is not None:
            labels = (folder / "labels" / name).with_suffix(".txt")
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(lines)
    (folder / "data.yaml").write_text(text)
    return folder / "data.yaml"


def names(source):
    return [source.name(i) for i in range(len(source))]


def test_centers_and_sizes_become_corners(tmp_path):
    path = write(
        tmp_path,
        {"train/b.png": "1 0.5 0.5 1 1\n\n0 0.3 0.5 0.4 0.5\n", "train/a.png": "", "val/c.png": ""},
    )
    source = yolo.read(path, "train")
    assert source.classes == ("cat", "dog") and names(source) == ["a.png", "b.png"]
    assert source[0]["boxes"].shape == (0, 4)
    expected = [[0, 0, 1, 1], [0.1, 0.25, 0.5, 0.75]]
    np.testing.assert_allclose(source[1]["boxes"], expected, atol=1e-7)
    np.testing.assert_array_equal(source[1]["labels"], [2, 1])
    assert source[1]["size"] == (40, 50) and not source[1]["flags"].any()
    assert len(yolo.read(path, "val")) == 1


def test_given_classes_fix_the_labels(tmp_path):
    path = write(tmp_path, {"train/a.png": "0 .5 .5 .2 .2"})
    source = yolo.read(path, "train", ("dog", "cow", "cat"))
    assert source[0]["labels"] == [3] and source.classes == ("dog", "cow", "cat")
    with pytest.raises(DataError, match="unknown class 'dog' in .*data.yaml"):
        yolo.read(path, "train", ("cat",))


def test_an_image_without_label_file_is_counted_and_rounded_boxes_are_not(tmp_path):
    lines = "0 0.500001 0.5 1.0 1.0\n0 0.9 0.5 0.4 0.2\n0 0.5 0.5 0.0 0.1\n"
    path = write(tmp_path, {"train/a.png": lines, "train/b.png": None})
    source = yolo.read(path, "train")
    assert len(source[0]["boxes"]) == 2 and len(source[1]["boxes"]) == 0
    for note in ("1 boxes clipped", "1 boxes without area", "1 images without label file (b)"):
        assert note in source.summary()


def test_places_of_a_split(tmp_path):
    """A root, several folders, a list of images, numbered names, and a folder one too high."""
    text = (
        "path: set\ntrain: [images/x, images/y]\nval: list.txt\ntest: ../images/y\n"
        "names: {1: dog, 0: cat}\n"
    )
    files = {f"{name}.png": "1 .5 .5 .2 .2" for name in ("x/2", "x/deep/1", "y/3")}
    root = tmp_path / "set"
    path = write(root, files, text).rename(tmp_path / "data.yaml")
    (root / "list.txt").write_text("./images/y/3.png\nimages/x/2.png\n")
    assert names(yolo.read(path, "train")) == ["2.png", "1.png", "3.png"]
    assert names(yolo.read(path, "val")) == ["3.png", "2.png"]
    assert names(yolo.read(path, "test")) == ["3.png"]
    for split in ("train", "val", "test"):
        source = yolo.read(path, split)
        assert source.classes == ("cat", "dog") and source[0]["labels"] == [2]


def test_a_folder_and_a_file_of_classes(tmp_path):
    write(tmp_path, {"a.png": "1 .5 .5 .2 .2"})
    (tmp_path / "classes.txt").write_text("cat\n\ndog\n")
    for folder in (tmp_path, tmp_path / "images"):
        source = sources.make_source(
            (f"yolo:{folder}:{tmp_path / 'classes.txt'}",), micro.get_config()
        )
        assert source.classes == ("cat", "dog") and source[0]["labels"] == [2]
    flat = tmp_path / "flat"
    picture(flat / "b.png")
    (flat / "b.txt").write_text("0 .5 .5 .2 .2")
    assert yolo.read(flat, str(tmp_path / "classes.txt"))[0]["labels"] == [1]


def test_labels_lie_beside_the_images_of_any_folder(tmp_path):
    """LabelImg writes both into one folder, which may be called images."""
    flat = tmp_path / "images"
    picture(flat / "b.png")
    (flat / "b.txt").write_text("1 .5 .5 .2 .2")
    (flat / "classes.txt").write_text("cat\ndog\n")
    for place in (tmp_path, flat):
        assert yolo.read(place, str(flat / "classes.txt"))[0]["labels"] == [2]


def test_classes_without_names_are_numbered(tmp_path):
    write(tmp_path, {"train/a.png": "2 .5 .5 .2 .2\n\n0 .5 .5 .3 .3", "val/b.png": "0 .5 .5 1 1"})
    source = sources.make_source((f"yolo:{tmp_path}:",), micro.get_config())
    assert source.classes == ("class0", "class1", "class2") and len(source) == 2
    np.testing.assert_array_equal(source[0]["labels"], [3, 1])
    assert yolo.read(tmp_path / "images" / "val", "").classes == ("class0",)
    assert yolo.read(tmp_path, "", ("cat", "cow", "dog"))[0]["labels"].tolist() == [3, 1]
    with pytest.raises(DataError, match="line 1: class 2, but there are 0 … 1"):
        yolo.read(tmp_path, "", ("cat", "cow"))
    (tmp_path / "labels" / "val" / "b.txt").write_text("9999999999 .5 .5 1 1")
    with pytest.raises(DataError, match="class 9999999999, but there are 0 … 2"):
        yolo.read(tmp_path, "")
    (tmp_path / "labels" / "val" / "b.txt").write_text("")
    with pytest.raises(DataError, match="no box in any label file, so no classes; name them"):
        yolo.read(tmp_path / "images" / "val", "")


def test_names_of_a_data_yaml_for_a_folder(tmp_path):
    path = write(tmp_path, {"train/a.png": "1 .5 .5 .2 .2"}, f"train: /content/train\n{NAMES}")
    source = yolo.read(tmp_path / "images" / "train", str(path))
    assert source.classes == ("cat", "dog") and source[0]["labels"] == [2]


def test_a_list_of_darknet(tmp_path):
    """CVAT writes its paths as Darknet needs them, below a folder `data`."""
    for name in ("a", "b"):
        picture(tmp_path / "obj_train_data" / f"{name}.png")
        (tmp_path / "obj_train_data" / f"{name}.txt").write_text("1 .5 .5 .2 .2")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/b.png\nobj_train_data/a.png\n")
    source = yolo.read(tmp_path / "train.txt", str(tmp_path / "obj.names"))
    assert names(source) == ["b.png", "a.png"] and source[1]["labels"] == [2]


def test_hidden_files_and_copies_of_viewers_are_left_out(tmp_path):
    files = ("a.png", "._a.png", ".cache/a.png", "__MACOSX/a.png", "Thumbs/a.png")
    path = write(tmp_path, dict.fromkeys(files, "0 .5 .5 .2 .2"), f"train: images\n{NAMES}")
    assert names(yolo.read(path, "train")) == ["a.png"]


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)
)


@pytest.mark.parametrize("entry", ["names: *a39\ntrain: images", "names: [a]\ntrain: *a39",
                                   "names: [a]\ntrain: images\npath: *a39"])  # fmt: skip
def test_aliases_of_aliases_take_no_time_and_no_room(tmp_path, entry):
    path = write(tmp_path, {"a.png": ""}, BOMB + entry)
    with pytest.raises(DataError, match="which is not a text") as error:
        yolo.read(path, "train")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "name", ["no", "null", "~", "1", "1.0", "0x10", "1_000", "2024-01-01", "2024-99-99", "9" * 5000,
             "!!int abc", ".inf", "=", "yes"],
)  # fmt: skip
def test_a_class_is_called_what_stands_there(tmp_path, name):
    text = f"train: images/train\nnames:\n  - {name}\n  - dog\n"
    source = yolo.read(write(tmp_path, {"train/a.png": "0 .5 .5 .2 .2"}, text), "train")
    assert source.classes == (name.removeprefix("!!int "), "dog")
    text = f"train: images/train\nnames: {{0: {name}, 1: dog}}\n"
    assert yolo.read(write(tmp_path, {}, text), "train").classes == source.classes


@pytest.mark.parametrize("value", ["", "null", "~", "[]", "''"])
def test_a_split_or_path_that_is_null_is_absent(tmp_path, value):
    text = (
        f"train: images/train\nval: {value}\npath:{' ' + value if value != '[]' else ''}\n{NAMES}"
    )
    path = write(tmp_path, {"train/a.png": ""}, text)
    assert len(yolo.read(path, "train")) == 1
    with pytest.raises(ConfigError, match="no split 'val', there are: train;"):
        yolo.read(path, "val")


def test_an_image_that_is_listed_twice_is_refused_with_both_spellings(tmp_path):
    path = write(tmp_path, {"a.png": "", "b.png": ""}, "train: list.txt\nnames: [a]\n")
    for again in ("images/a.png", "./images/../images/a.png", str(tmp_path / "images" / "a.png")):
        (tmp_path / "list.txt").write_text(f"images/a.png\nimages/b.png\n{again}\n")
        with pytest.raises(DataError, match="data.yaml train: images listed twice: ") as error:
            yolo.read(path, "train")
        assert f"{tmp_path / again} (as {tmp_path}/images/a.png)" in str(error.value)


@pytest.mark.parametrize("line", ["a\0.png", "a" * 300 + ".png", "/", ".", "..", "images"])
def test_a_line_that_names_no_image_is_refused(tmp_path, line):
    path = write(tmp_path, {"a.png": ""}, "train: list.txt\nnames: [a]\n")
    (tmp_path / "list.txt").write_text(f"{line}\nimages/a.png\n")
    with pytest.raises(DataError, match="cannot read the image"):
        yolo.read(path, "train")
    scan = Scan(collect_errors=True)
    assert names(yolo.read(path, "train", (), scan)) == ["a.png"] and len(scan.errors) == 1


def test_names_end_only_where_lines_do(tmp_path):
    write(tmp_path, {"a.png": ""})
    classes = tmp_path / "classes.txt"
    classes.write_bytes("one\u2028line\r\ntwo\rthree".encode())
    assert yolo.read(tmp_path, str(classes)).classes == ("one\u2028line", "two", "three")
    classes.write_bytes(b"form\x0cfeed\n")
    with pytest.raises(DataError, match="class name 'form.x0cfeed' in .*classes.txt"):
        yolo.read(tmp_path, str(classes))


def test_what_is_no_file_is_refused(tmp_path):
    path = write(tmp_path, {"train/a.png": "", "train/b.png": ""})
    (tmp_path / "labels" / "train" / "a.txt").unlink()
    (tmp_path / "labels" / "train" / "a.txt").mkdir()
    (tmp_path / "images" / "train" / "c.png").mkdir()
    with pytest.raises(DataError) as error:
        yolo.read(path, "train")
    for words in ("a.txt: cannot read it (not a regular", "c.png: cannot read the image (not a"):
        assert words in str(error.value)


def test_the_last_folder_images_counts(tmp_path):
    path = write(tmp_path / "images" / "set", {"images.png": "1 .5 .5 .2 .2"}, f"train: .\n{NAMES}")
    assert yolo.read(path, "train")[0]["labels"] == [2]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2 .5 .5 .2 .2", "line 2: class 2, but there are 0 … 1"),
        ("-1 .5 .5 .2 .2", "line 2: class -1"),
        ("0.5 .5 .5 .2 .2", "line 2: class 0.5"),
        ("0 .5 .5 .2", "line 2: 4 numbers"),
        ("0 .5 .5 .2 .2 .9 .1", "line 2: 7 numbers"),
        ("0 .5 .5 .2 x", "line 2: '0 .5 .5 .2 x' are not numbers"),
        ("0 .5 .5 .2 \0", r"line 2: '0 .5 .5 .2 .x00' are not numbers"),
        (f"0 .5 .5 .2 {'9' * 400}", "line 2: .* not shares"),
        (f"0 .5 .5 .2 {'9' * 5000}", r"line 2: '?.5 .5 .2 9+\.\.\.9+'? are not shares"),
        (f"{'9' * 5000} .5 .5 .2 .2", r"line 2: class '?9+\.\.\.9+'?, but"),
        ("0 .5 .5 .2 nan", "line 2: .* not shares"),
        ("0 25 20 10 8", "line 2: 25 20 10 8 are not shares"),
        ("0 .5 .5 -.2 .2", "line 2: .* not shares"),
    ],
)
def test_a_bad_line_is_refused_with_its_place(tmp_path, line, words):
    path = write(tmp_path, {"train/a.png": f"0 .5 .5 .2 .2\n{line}"})
    with pytest.raises(DataError, match=rf"labels/train/a\.txt, {words}"):
        yolo.read(path, "train")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not YAML"),
        ("train: x", "no names"),
        ("train: images\nnames: []", "no class names"),
        ("train: images\nnames: [a, a]", "occurs twice"),
        ("train: x\nnames: {1: a}", "numbered 0"),
        ("train: images\nnames: !!python/object/apply:os.getcwd []", "no class names"),
        ("train: images\nnames: !!python/object/apply:os.getcwd", "no names"),
        ("train: images\nnames: [[a]]", r"data.yaml: names holds \['a'\], which is not a text"),
        ("train: images\nnames: {0: {a: b}}", "data.yaml: names holds {'a': 'b'}"),
        ("train: {a: b}\nnames: [a]", "data.yaml: train holds {'a': 'b'}, which is not a text"),
        ("train: [[a]]\nnames: [a]", r"data.yaml: train holds \['a'\]"),
        ("train: images\npath: [a]\nnames: [a]", r"data.yaml: path holds \['a'\]"),
        ('train: "a\\0b"\nnames: [a]', r"a\\x00b.*: no such folder"),
        ('train: "\\uD800"\nnames: [a]', r"ud800.*: no such folder"),
        (f"train: {'a' * 5000}\nnames: [a]", r"aaa\.\.\.aaa.*: no such folder"),
        ('train: images\nnames: ["a\\0b"]', r"class name 'a.x00b' in .*data.yaml has a control"),
        ('train: images\nnames: ["\\uDC80"]', r"class name '.udc80' in .*data.yaml has a control"),
        ("train: images\nnames: [a, ]\n? [b]\n: c", "not YAML"),
        ("train: images\nnames: [a, '']", "class name '' in .*data.yaml is empty"),
        ("[" * 100_000, "not YAML .*recursion"),
        ("names: " + "{a: " * 100_000, "not YAML .*recursion"),
        ("names: &a [*a]\ntrain: images", "not YAML"),
        ("train: nowhere\nnames: [a]", "nowhere: no such folder"),
        ("train: none.txt\nnames: [a]", "none.txt: cannot read"),
        ("train: [images, images]\nnames: [a]", "listed twice"),
    ],
)
def test_a_bad_data_yaml_is_refused_by_name(tmp_path, text, words):
    path = write(tmp_path, {"a.png": ""}, text)
    with pytest.raises(DataError, match=words):
        yolo.read(path, "train")


def test_what_is_not_clear_is_answered_with_the_two_forms(tmp_path):
    path = write(tmp_path, {"train/a.png": ""})
    for place, argument, words in [
        (path, "", "there are: train, val"),
        (path, "test", "no split 'test'"),
        (tmp_path, "train", "train: no such file of class names"),
    ]:
        with pytest.raises(ConfigError, match=words) as error:
            yolo.read(place, argument)
        assert "yolo:DATA.yaml:SPLIT or yolo:FOLDER:CLASSES.txt" in str(error.value)
    with pytest.raises(DataError, match="cannot read"):
        yolo.read(tmp_path / "none.yaml", "train")


def test_label_files_without_image_are_counted(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    for name in ("a", "b", "classes"):
        (tmp_path / "labels" / f"{name}.txt").write_text(
            "0 .5 .5 .5 .5\n" if name < "c" else "dog\n"
        )
    source = yolo.read(tmp_path, str(tmp_path / "labels" / "classes.txt"))
    assert len(source) == 1 and "1 label files without image (b.txt)" in source.summary()
