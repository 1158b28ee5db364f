"""Folders as annotation tools and archives leave them: each is recognized, opened, compared."""

import json
from pathlib import Path

import cv2
import micro
import numpy as np
import pytest
import yaml
from voc_folders import thing, xml

from ssd_jax.data import sources
from ssd_jax.data.recognize import recognize
from ssd_jax.errors import DataError

WIDTH, HEIGHT = 100, 80
CLASSES = ("cat", "dog")
# Name of an image -> its boxes, in pixels of PASCAL VOC: from 1, both corners inside.
TRUTH = {
    "a": [("cat", (11, 21, 50, 40))],
    "b é 图": [("dog", (1, 1, 100, 80))],
    "c": [("dog", (3, 5, 60, 44)), ("cat", (21, 31, 40, 80))],
    "d": [("dog", (51, 41, 90, 60))],
}
SPLITS = {"train": ["a", "b é 图"], "val": ["c"], "test": ["d"]}
ALL = {"all": list(TRUTH)}


def put_image(folder, name, suffix=".jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = cv2.imencode(suffix, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1].tobytes()
    (folder / f"{name}{suffix}").write_bytes(pixels)


def put_text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def put_xml(folder, name):
    put_text(folder / f"{name}.xml", xml(*(thing(*item) for item in TRUTH[name])))


def put_labels(folder, name, order=CLASSES):
    rows = []
    for label, (x0, y0, x1, y1) in TRUTH[name]:
        numbers = np.array([x0 - 1 + x1, y0 - 1 + y1, 2 * (x1 - x0 + 1), 2 * (y1 - y0 + 1)]) / 2
        shares = numbers / ([WIDTH, HEIGHT] * 2)
        rows.append(f"{order.index(label)} " + " ".join(f"{share:.6f}" for share in shares))
    put_text(folder / f"{name}.txt", *rows)


def coco_text(names, prefix="", group=None):
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    if group:
        categories = [{**each, "supercategory": group} for each in categories]
        categories.insert(0, {"id": 0, "name": group, "supercategory": "none"})
    images = [{"id": i, "file_name": f"{prefix}{name}.jpg", "width": WIDTH, "height": HEIGHT}
              for i, name in enumerate(names)]  # fmt: skip
    annotations = [
        {"id": 10 * i + j, "image_id": i, "category_id": 1 + CLASSES.index(label), "iscrowd": 0,
         "bbox": [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1]}
        for i, name in enumerate(names)
        for j, (label, (x0, y0, x1, y1)) in enumerate(TRUTH[name])
    ]  # fmt: skip
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def csv_rows(names, prefix="", form="filename,width,height,class,xmin,ymin,xmax,ymax"):
    rows = [] if form == "bare" else [form]
    for name in names:
        for label, (x0, y0, x1, y1) in TRUTH[name]:
            file = f"{prefix}{name}.jpg"
            if form.endswith(("xmax,ymax", "x_max,y_max")):
                cells = [file, WIDTH, HEIGHT, label, x0, y0, x1, y1]
            elif form == "bare":
                cells = [file, x0 - 1, y0 - 1, x1, y1, label]
            elif form.endswith("x2,y2"):
                cells = [file, label, x0 - 1, y0 - 1, x1, y1]
            else:
                cells = [label, x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1, file, WIDTH, HEIGHT]
            rows.append(",".join(map(str, cells)))
    return rows


# Folders with annotations of PASCAL VOC.


def voc_lists(root):
    voc_standard(root)
    for split, names in SPLITS.items():
        put_text(root / "ImageSets" / "Main" / f"{split}.txt", *names)
    put_text(root / "ImageSets" / "Main" / "trainval.txt", *SPLITS["train"], *SPLITS["val"])
    put_text(root / "ImageSets" / "Main" / "dog_train.txt", "a 1", "c -1")


def voc_trainval(root):
    voc_lists(root)
    (root / "ImageSets" / "Main" / "train.txt").unlink()


def voc_standard(root):
    for name in TRUTH:
        put_image(root / "JPEGImages", name)
        put_xml(root / "Annotations", name)
        put_image(root / "SegmentationClass", name, ".png")


def voc_cvat(root):
    voc_standard(root)
    put_text(root / "ImageSets" / "Main" / "default.txt", *TRUTH)
    put_text(root / "labelmap.txt", "# label:color_rgb:parts:actions", "cat:250,50,83::")


def voc_devkit(root):
    voc_lists(root / "VOCdevkit" / "VOC2007")


def voc_any_names(root):
    for name in TRUTH:
        put_image(root / "images", name)
        put_xml(root / "annots", name)


def voc_any_names_and_lists(root):
    voc_any_names(root)
    for split, names in SPLITS.items():
        put_text(root / "ImageSets" / "Main" / f"{split}.txt", *names)


def voc_in_labels(root):
    for name in TRUTH:
        put_image(root / "images", name, ".JPEG")
        put_xml(root / "labels", name)


def voc_labelimg(root):
    for name in TRUTH:
        put_image(root, name)
        put_xml(root, name)


def voc_roboflow(root):
    for split, names in SPLITS.items():
        for name in names:
            folder = root / {"val": "valid"}.get(split, split)
            put_image(folder, name)
            put_xml(folder, name)
    put_text(root / "README.dataset.txt", "exported")


def voc_kinds_then_splits(root):
    for split, names in SPLITS.items():
        for name in names:
            put_image(root / "JPEGImages" / split, name)
            put_xml(root / "Annotations" / split, name)


def voc_splits_then_standard(root):
    for split, names in SPLITS.items():
        for name in names:
            put_image(root / split.title() / "JPEGImages", name)
            put_xml(root / split.title() / "Annotations", name)


# Folders with label files of YOLO.


def yolo_folders(root, form="images/{split}", val="val", order=CLASSES):
    for split, names in SPLITS.items():
        folder = form.format(split={"val": val}.get(split, split))
        for name in names:
            put_image(root / folder, name)
            put_labels(root / folder.replace("images", "labels"), name, order)


def put_yaml(path, **content):
    put_text(path, yaml.safe_dump({"names": list(CLASSES), "nc": 2} | content))


def yolo_ultralytics(root):
    yolo_folders(root)
    content = {"path": ".", "names": dict(enumerate(CLASSES))}
    content |= {split: f"images/{split}" for split in SPLITS}
    put_text(root / "dataset.yaml", yaml.safe_dump(content))


def yolo_roboflow(root):
    yolo_folders(root, "{split}/images", val="valid")
    put_yaml(root / "data.yaml", train="../train/images", val="../valid/images",
             test="../test/images", roboflow={"license": "CC BY 4.0"})  # fmt: skip


def yolo_yaml_of_another_machine(root):
    yolo_folders(root, "{split}/images", val="valid")
    put_yaml(root / "data.yaml", train="/content/set/train/images", val="/content/set/valid/images")


def yolo_yaml_without_test(root):
    """Validation on the training images, and a test set that is not there."""
    for name in TRUTH:
        put_image(root / "images", name)
        put_labels(root / "labels", name)
    put_yaml(root / "data.yaml", train="images", val="images", test="../test/images")


def yolo_labelimg(root):
    for name in TRUTH:
        put_image(root / "images", name)
        put_labels(root / "images", name)
    put_text(root / "images" / "classes.txt", *CLASSES)


def yolo_flat(root):
    for name in TRUTH:
        put_image(root, name)
        put_labels(root, name)
    put_text(root / "classes.txt", *CLASSES)


def yolo_cvat(root):
    for name in TRUTH:
        put_image(root / "obj_train_data", name)
        put_labels(root / "obj_train_data", name)
    put_text(root / "obj.names", *CLASSES)
    put_text(root / "obj.data", "classes = 2", "train = data/train.txt", "names = data/obj.names")
    put_text(root / "train.txt", *(f"data/obj_train_data/{name}.jpg" for name in TRUTH))


def yolo_darknet(root):
    """Lists of three splits."""
    yolo_cvat(root)
    for split, names in SPLITS.items():
        name = {"val": "valid"}.get(split, split)
        put_text(root / f"{name}.txt", *(f"obj_train_data/{name}.jpg" for name in names))


def yolo_roboflow_darknet(root):
    """Every split has its file of names, and they need not agree."""
    for split, names in SPLITS.items():
        order = CLASSES[::-1] if split == "val" else CLASSES
        for name in names:
            put_image(root / split, name)
            put_labels(root / split, name, order)
        put_text(root / split / "_darknet.labels", *order)


def yolo_label_studio(root):
    for name in TRUTH:
        put_image(root / "images", name)
        put_labels(root / "labels", name)
    put_text(root / "classes.txt", *CLASSES)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    put_text(root / "notes.json", json.dumps({"categories": categories, "info": {"year": 2026}}))


def yolo_capitals(root):
    for name in TRUTH:
        put_image(root / "Images", name, ".PNG")
        put_labels(root / "Labels", name)
    put_text(root / "Classes.txt", *CLASSES)


def yolo_numbers(root):
    for name in TRUTH:
        put_image(root / "images", name)
        put_labels(root / "labels", name)


def yolo_numbers_and_splits(root):
    """The only image of a split has class 0 alone, or none at all."""
    yolo_folders(root, order=("dog", "cat"))
    put_image(root / "images" / "test", "e")
    put_text(root / "labels" / "test" / "e.txt", "")


# Folders with COCO's JSON.


def coco_2017(root):
    for split, names in SPLITS.items():
        for name in names:
            put_image(root / f"{split}2017", name)
        text = coco_text(names)
        for kind in ("instances", "person_keypoints", "captions"):
            put_text(root / "annotations" / f"{kind}_{split}2017.json", text)


def coco_roboflow(root):
    for split, names in SPLITS.items():
        folder = root / {"val": "valid"}.get(split, split)
        for name in names:
            put_image(folder, name)
        put_text(folder / "_annotations.coco.json", coco_text(names, group="animals"))


def coco_cvat(root):
    for name in TRUTH:
        put_image(root / "images" / "default", name)
    put_text(root / "annotations" / "instances_default.json", coco_text(TRUTH))


def coco_label_studio(root, prefix="images/"):
    for name in TRUTH:
        put_image(root / "images", name)
    put_text(root / "result.json", coco_text(TRUTH, prefix))


def coco_label_studio_paths(root):
    coco_label_studio(root, "../../label-studio/data/upload/1/")


def coco_one_folder(root):
    """Images of all splits in one folder, and a file of all beside those of the splits."""
    for name in TRUTH:
        put_image(root / "images", name)
    for split, names in SPLITS.items():
        put_text(root / f"{split}.json", coco_text(names))
    put_text(root / "everything.json", coco_text(TRUTH))


def coco_same_names(root):
    """Roboflow's layout below images/ and annotations/, with one file name in two splits."""
    for split, names in SPLITS.items():
        for name in names:
            put_image(root / "images" / split, name)
        put_image(root / "images" / split, "a")
        put_text(root / "annotations" / f"{split}.json", coco_text(names))


# Folders with CSV lists.


def csv_splits(root):
    for name in TRUTH:
        put_image(root / "images", name)
    put_text(root / "data" / "train_labels.csv", *csv_rows(SPLITS["train"]))
    put_text(root / "data" / "val_labels.csv", *csv_rows(SPLITS["val"]))
    put_text(root / "data" / "test_labels.csv", *csv_rows(SPLITS["test"]))
    put_text(root / "data" / "all_labels.csv", *csv_rows(TRUTH))
    put_text(root / "results.csv", "epoch,loss", "1,2.5")


def csv_roboflow(root):
    for split, names in SPLITS.items():
        folder = root / {"val": "valid"}.get(split, split)
        for name in names:
            put_image(folder, name)
        put_text(folder / "_annotations.csv", *csv_rows(names))


def csv_one(root, form="filename,width,height,class,xmin,ymin,xmax,ymax", prefix=""):
    for name in TRUTH:
        put_image(root / "photos", name)
    put_text(root / "boxes.csv", *csv_rows(TRUTH, prefix, form))


def csv_retinanet(root):
    csv_one(root, "bare", "/home/someone/photos/")
    put_text(root / "classes.csv", "cat,0", "dog,1")


def csv_retinanet_splits(root):
    """The list of training has no word for it."""
    csv_one(root)
    (root / "boxes.csv").unlink()
    names = [*SPLITS["train"], *SPLITS["val"]]
    put_text(root / "annotations.csv", *csv_rows(names, "photos/", "bare"))
    put_text(root / "test_annotations.csv", *csv_rows(SPLITS["test"], "photos/", "bare"))


def csv_capitals(root):
    """The list of a system that does not tell small letters from capital ones."""
    for name in TRUTH:
        put_image(root / "Photos", name, ".JPG")
    put_text(root / "BOXES.CSV", *csv_rows(TRUTH, "photos/"))


def csv_absolute_paths(root):
    csv_one(root, prefix=f"{root.absolute()}/photos/")


def csv_underscores(root):
    csv_one(root, "path,width,height,name,x_min,y_min,x_max,y_max", "photos/")


def csv_edges(root):
    csv_one(root, "image,label,x1,y1,x2,y2")


def csv_makesense(root):
    csv_one(root, "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,"
                  "image_height")  # fmt: skip


NO_VAL = {"train": [*SPLITS["train"], *SPLITS["val"]], "test": SPLITS["test"]}
NUMBERS = ("class0", "class1")
LAYOUTS = [
    ("voc", voc_lists, SPLITS, CLASSES),
    ("voc", voc_trainval, NO_VAL, CLASSES),
    ("voc", voc_standard, ALL, CLASSES),
    ("voc", voc_cvat, ALL, CLASSES),
    ("voc", voc_devkit, SPLITS, CLASSES),
    ("voc", voc_any_names, ALL, CLASSES),
    ("voc", voc_any_names_and_lists, SPLITS, CLASSES),
    ("voc", voc_in_labels, ALL, CLASSES),
    ("voc", voc_labelimg, ALL, CLASSES),
    ("voc", voc_roboflow, SPLITS, CLASSES),
    ("voc", voc_kinds_then_splits, SPLITS, CLASSES),
    ("voc", voc_splits_then_standard, SPLITS, CLASSES),
    ("yolo", yolo_ultralytics, SPLITS, CLASSES),
    ("yolo", yolo_roboflow, SPLITS, CLASSES),
    ("yolo", yolo_yaml_of_another_machine, SPLITS, CLASSES),
    ("yolo", yolo_yaml_without_test, ALL, CLASSES),
    ("yolo", yolo_labelimg, ALL, CLASSES),
    ("yolo", yolo_flat, ALL, CLASSES),
    ("yolo", yolo_cvat, ALL, CLASSES),
    ("yolo", yolo_darknet, SPLITS, CLASSES),
    ("yolo", yolo_roboflow_darknet, SPLITS, CLASSES),
    ("yolo", yolo_label_studio, ALL, CLASSES),
    ("yolo", yolo_capitals, ALL, CLASSES),
    ("yolo", yolo_numbers, ALL, NUMBERS),
    ("yolo", yolo_numbers_and_splits, SPLITS | {"test": ["d", "e"]}, NUMBERS),
    ("coco", coco_2017, SPLITS, CLASSES),
    ("coco", coco_roboflow, SPLITS, CLASSES),
    ("coco", coco_cvat, ALL, CLASSES),
    ("coco", coco_label_studio, ALL, CLASSES),
    ("coco", coco_label_studio_paths, ALL, CLASSES),
    ("coco", coco_one_folder, SPLITS, CLASSES),
    ("coco", coco_same_names, SPLITS, CLASSES),
    ("csv", csv_splits, SPLITS, CLASSES),
    ("csv", csv_roboflow, SPLITS, CLASSES),
    ("csv", csv_one, ALL, CLASSES),
    ("csv", csv_retinanet, ALL, CLASSES),
    ("csv", csv_retinanet_splits, NO_VAL, CLASSES),
    ("csv", csv_capitals, ALL, CLASSES),
    ("csv", csv_absolute_paths, ALL, CLASSES),
    ("csv", csv_underscores, ALL, CLASSES),
    ("csv", csv_edges, ALL, CLASSES),
    ("csv", csv_makesense, ALL, CLASSES),
]


def check(readings, format, splits, classes):
    """One reading, whose splits open with the boxes that were written."""
    assert [reading.format for reading in readings] == [format]
    (reading,) = readings
    assert set(reading.specs) == set(reading.counts) == set(splits)
    assert reading.classes == classes and "\n" not in reading.summary
    real_names = dict(zip(NUMBERS, ("dog", "cat") if "test" in splits else CLASSES))
    for split, names in splits.items():
        source = sources.make_source((reading.specs[split],), micro.get_config(), reading.classes)
        assert source.classes == classes
        assert reading.counts[split] == len(source) == len(names)
        assert {Path(source.name(i)).stem for i in range(len(source))} == set(names)
        for i in range(len(source)):
            example, truth = source.ground_truth(i), TRUTH.get(Path(source.name(i)).stem, [])
            expected = np.array([box for _, box in truth], float).reshape(-1, 4)
            expected = (expected - [1, 1, 0, 0]) / ([WIDTH, HEIGHT] * 2)
            np.testing.assert_allclose(example["boxes"], expected, atol=2e-6)
            found = [classes[label - 1] for label in example["labels"]]
            assert [real_names.get(name, name) for name in found] == [name for name, _ in truth]


LAYOUT = pytest.mark.parametrize(
    ("format", "write", "splits", "classes"), LAYOUTS, ids=[each[1].__name__ for each in LAYOUTS]
)


@LAYOUT
def test_a_layout_is_recognized_and_opens(tmp_path, format, write, splits, classes):
    write(tmp_path)
    check(recognize(tmp_path), format, splits, classes)


@LAYOUT
def test_a_layout_is_recognized_in_a_folder_with_what_systems_leave(
    tmp_path, format, write, splits, classes
):
    """In an archive's folder of its own, beside hidden files, previews and empty folders."""
    root = tmp_path / "my photos é"
    write(root / "export")
    folders = [path for path in root.rglob("*") if path.is_dir()]
    for folder in folders:
        for name in ("._a.jpg", "._a.xml", ".DS_Store", "Icon\r", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\0")
        (folder / "empty").mkdir()
    for image in [path for path in root.rglob("[!.]*.jpg")]:
        copies = root / "__MACOSX" / image.relative_to(root)
        for copy in (
            copies,
            image.parent / ".thumbnails" / image.name,
            root / "Thumbs" / image.name,
        ):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(image.read_bytes())
    (root / "loop").symlink_to(root)
    check(recognize(root), format, splits, classes)


@LAYOUT
def test_a_layout_of_links_is_recognized(tmp_path, format, write, splits, classes):
    write(tmp_path / "real")
    linked = tmp_path / "links"
    linked.mkdir()
    for path in (tmp_path / "real").iterdir():
        (linked / path.name).symlink_to(path)
    check(recognize(linked), format, splits, classes)


@LAYOUT
def test_a_layout_is_recognized_in_the_current_folder(
    tmp_path, monkeypatch, format, write, splits, classes
):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    check(recognize("."), format, splits, classes)


@LAYOUT
def test_names_above_the_folder_say_nothing(tmp_path, format, write, splits, classes):
    folder = tmp_path / "images" / "train"
    write(folder)
    check(recognize(folder), format, splits, classes)


def test_the_summary_says_what_was_found(tmp_path):
    for write, text in [
        (
            voc_any_names,
            "PASCAL VOC: 4 photographs in images/, 4 annotations in annots/, no lists; "
            "classes (2): cat, dog",
        ),
        (
            voc_roboflow,
            "PASCAL VOC: 4 photographs in test/, train/, valid/, 4 annotations in test/, train/, "
            "valid/, folders test, train, valid; train 2, val 1, test 1; classes (2): cat, dog",
        ),
        (
            yolo_ultralytics,
            "YOLO: 4 photographs in images/test/, images/train/, images/val/, 4 label files in "
            "labels/test/, labels/train/, labels/val/, names in dataset.yaml; train 2, val 1, "
            "test 1; classes (2): cat, dog",
        ),
        (
            yolo_numbers,
            "YOLO: 4 photographs in images/, 4 label files in labels/, no names, so classes are "
            "numbers; classes (2): class0, class1",
        ),
        (
            coco_cvat,
            "COCO: 4 photographs in images/default/, boxes in annotations/instances_default.json; "
            "classes (2): cat, dog",
        ),
        (
            csv_one,
            "CSV: 4 photographs in photos/, boxes in boxes.csv; classes (2): cat, dog",
        ),
    ]:  # fmt: skip
        folder = tmp_path / write.__name__
        write(folder)
        assert recognize(folder)[0].summary == text


def test_two_formats_of_one_folder_are_both_returned(tmp_path):
    voc_any_names(tmp_path)
    put_text(tmp_path / "train.csv", *csv_rows(SPLITS["train"]))
    put_text(tmp_path / "test.csv", *csv_rows(SPLITS["test"]))
    readings = recognize(tmp_path)
    assert [reading.format for reading in readings] == ["voc", "csv"]
    check(readings[1:], "csv", {split: SPLITS[split] for split in ("train", "test")}, CLASSES)


def test_two_data_sets_of_one_format_are_both_returned(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        voc_lists(tmp_path / "VOCdevkit" / year)
    specs = [reading.specs["train"] for reading in recognize(tmp_path)]
    assert specs == [f"voc:{tmp_path}/VOCdevkit/{year}:train" for year in ("VOC2007", "VOC2012")]
    yolo = tmp_path / "yolo"
    for name in ("x", "y"):
        yolo_folders(yolo / name)
    assert [list(reading.specs) for reading in recognize(yolo)] == [["train", "val", "test"]] * 2
    lists = tmp_path / "lists"
    csv_one(lists)
    for name in ("old", "new"):
        for split in ("train", "test"):
            put_text(lists / f"{name}_{split}.csv", *csv_rows(SPLITS[split]))
    (lists / "boxes.csv").unlink()
    found = [reading.specs["train"].rpartition("/")[2] for reading in recognize(lists)]
    assert found == ["new_train.csv", "old_train.csv"]


def test_images_of_a_list_in_many_folders(tmp_path):
    """The list has only their names, of which one occurs twice in the end."""
    for name in TRUTH:
        put_image(tmp_path / "days" / name, name)
    put_text(tmp_path / "boxes.csv", *csv_rows(TRUTH))
    check(recognize(tmp_path), "csv", ALL, CLASSES)
    put_image(tmp_path / "days" / "other", "a")
    assert "1 photographs missing" in recognize(tmp_path)[0].summary


def test_names_of_cvat(tmp_path):
    """Parts of a project have capital letters in its exports."""
    parts = {"Train": "train", "Validation": "val", "Test": "test"}
    yolo = tmp_path / "yolo"
    for part, split in parts.items():
        for name in SPLITS[split]:
            put_image(yolo / f"obj_{part}_data", name)
            put_labels(yolo / f"obj_{part}_data", name)
            put_image(tmp_path / "coco" / "images" / part, name)
        lines = (f"data/obj_{part}_data/{name}.jpg" for name in SPLITS[split])
        put_text(yolo / f"{part}.txt", *lines)
        put_text(
            tmp_path / "coco" / "annotations" / f"instances_{part}.json", coco_text(SPLITS[split])
        )
    put_text(yolo / "obj.names", *CLASSES)
    check(recognize(yolo), "yolo", SPLITS, CLASSES)
    check(recognize(tmp_path / "coco"), "coco", SPLITS, CLASSES)


def test_images_without_labels_are_no_split(tmp_path):
    """Test images of a competition have none."""
    yolo_folders(tmp_path / "yolo")
    put_text(tmp_path / "yolo" / "classes.txt", *CLASSES)
    for path in (tmp_path / "yolo" / "labels" / "test").iterdir():
        path.unlink()
    coco_one_folder(tmp_path / "coco")
    content = json.loads((tmp_path / "coco" / "test.json").read_text())
    put_text(tmp_path / "coco" / "test.json", json.dumps(content | {"annotations": []}))
    for format in ("yolo", "coco"):
        (reading,) = [each for each in recognize(tmp_path / format) if "train" in each.specs]
        assert list(reading.specs) == ["train", "val"]


def test_other_xml_is_no_annotation(tmp_path):
    voc_any_names(tmp_path)
    put_text(tmp_path / "project.xml", "<project/>")
    put_text(tmp_path / "annotations.xml", "<annotations><version>1.1</version></annotations>")
    check(recognize(tmp_path), "voc", ALL, CLASSES)
    put_text(tmp_path / "annots" / "lone.xml", xml(thing()).replace("on>", 'on verified="yes">', 1))
    (reading,) = recognize(tmp_path)
    assert "4 annotations in annots/, no lists, 1 annotations without photograph in annots/" in (
        reading.summary
    )
    with pytest.raises(DataError, match="lone: the image is missing"):
        sources.make_source((reading.specs["all"],), micro.get_config())


def test_images_that_are_missing_are_said(tmp_path):
    coco_cvat(tmp_path)
    (tmp_path / "images" / "default" / "a.jpg").unlink()
    assert "1 photographs missing" in recognize(tmp_path)[0].summary


def test_a_folder_without_annotations_is_answered_with_what_it_holds(tmp_path):
    for name in TRUTH:
        put_image(tmp_path / "images", name)
        put_text(tmp_path / "images" / f"{name}.txt", "a cat on a sofa")
    put_text(tmp_path / "notes.json", "{}")
    put_text(tmp_path / "boxes.csv", "image,score", "a,1")
    with pytest.raises(DataError) as error:
        recognize(tmp_path)
    for words in ("no photographs with annotations; it holds 4 .jpg, 4 .txt, 1 .csv, 1 .json;",
                  "for example images/a.jpg and annotations/a.xml",
                  "boxes.csv: its header has no class"):  # fmt: skip
        assert words in str(error.value)


@pytest.mark.parametrize("write", [voc_any_names, coco_cvat, csv_one, yolo_ultralytics])
def test_annotations_without_images_are_no_data_set(tmp_path, write):
    write(tmp_path)
    for image in tmp_path.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(DataError, match="no photographs with annotations"):
        recognize(tmp_path)


def test_damaged_annotations_are_named_where_nothing_else_is_found(tmp_path):
    put_image(tmp_path, "a")
    put_text(tmp_path / "a.xml", "<html></html>")
    put_text(tmp_path / "b.json", '{"images": 1, "annotations": 2, "categories": 3}')
    with pytest.raises(DataError, match="root <html>.*\n.*b.json: no images"):
        recognize(tmp_path)


def test_a_damaged_file_does_not_hide_a_data_set(tmp_path):
    voc_any_names(tmp_path)
    put_text(tmp_path / "annots" / "a.xml", "<annotation>")
    (reading,) = recognize(tmp_path)
    assert reading.counts == {"all": 4}
    with pytest.raises(DataError, match="a.xml, line 2: bad XML"):
        sources.make_source((reading.specs["all"],), micro.get_config())


def test_no_image_is_opened(tmp_path, monkeypatch):
    voc_any_names(tmp_path)
    for image in (tmp_path / "images").iterdir():
        image.write_bytes(b"")
    assert recognize(tmp_path)[0].counts == {"all": 4}


def test_a_folder_that_is_not_there_or_empty(tmp_path):
    (tmp_path / "file.jpg").write_bytes(b"")
    for name, words in [
        ("nowhere", "cannot read the folder"),
        ("file.jpg", "cannot read the fold"),
    ]:
        with pytest.raises(DataError, match=words):
            recognize(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it holds no files"):
        recognize(tmp_path / "empty")


def test_a_colon_that_would_end_a_part_of_the_name_is_refused(tmp_path):
    voc_any_names(tmp_path / "a:b")
    assert len(recognize(tmp_path / "a:b")) == 1
    csv_one(tmp_path / "c:d")
    with pytest.raises(DataError, match="rename or move the folder"):
        recognize(tmp_path / "c:d")
