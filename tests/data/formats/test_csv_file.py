import cv2
import numpy as np
import pytest

from ssd_jax.data.formats import csv_file, voc
from ssd_jax.errors import DataError

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"


def write(folder, *rows, header=HEADER, classes=()):
    """Images a.png and b.png of 50 x 40, and what is read of the list."""
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.full((40, 50, 3), 90, np.uint8))
    (folder / "list.csv").write_text("\n".join([header, *rows]) + "\n")
    return csv_file.read(folder, folder / "list.csv", classes)


def test_corners_are_those_of_pascal_voc(tmp_path):
    source = write(
        tmp_path,
        "b.png,50,40,cat,1,1,50,40",
        "a.png,50,40,dog,6,11,25,30",
        "b.png,50,40,dog,1,1,2,2",
    )
    assert source.classes == ("cat", "dog") and len(source) == 2 and source.max_boxes == 2
    assert [source.name(i) for i in range(2)] == ["b.png", "a.png"]
    np.testing.assert_allclose(source[0]["boxes"], [[0, 0, 1, 1], [0, 0, 0.04, 0.05]], rtol=1e-6)
    np.testing.assert_array_equal(source[0]["labels"], [1, 2])
    np.testing.assert_allclose(source[1]["boxes"], [[0.1, 0.25, 0.5, 0.75]], rtol=1e-6)
    assert not source[0]["flags"].any()


def test_columns_in_any_order_without_sizes_and_an_image_without_boxes(tmp_path):
    header = "\ufeffxmin,ymin,xmax,ymax,filename,class"
    source = write(tmp_path, "1,1,9,9,a.png,cat", ",,,,b.png,", header=header)
    assert len(source[0]["boxes"]) == 1 and source[1]["boxes"].shape == (0, 4)


EDGES = (5, 10, 25, 30)  # of one box, counted from 0
INCLUSIVE = (6, 11, 25, 30)  # the same, as PASCAL VOC counts pixels
SIDES = (5, 10, 20, 20)


@pytest.mark.parametrize(
    ("header", "box"),
    [
        ("image,label,xmin,ymin,xmax,ymax", INCLUSIVE),
        ("image_id,name,x_min,y_min,x_max,y_max", INCLUSIVE),
        ("Path,Class_Name,XMin,YMin,XMax,YMax", INCLUSIVE),
        ("file,label,x1,y1,x2,y2", EDGES),
        ("image_name,label_name,bbox_x,bbox_y,bbox_width,bbox_height", SIDES),
        ("filename,class,xmin,ymin,xmax,ymax,path,label", INCLUSIVE),
        (None, EDGES),
    ],
)
def test_names_of_columns(tmp_path, header, box):
    """One box, whatever the columns are called; a list without header has the class at the end."""
    cells = list(map(str, box))
    cells = ["a.png", *cells, "dog"] if header is None else ["a.png", "dog", *cells]
    cells += ["elsewhere", "something"] if header and header.endswith("path,label") else []
    first, *others = [*([header] if header else []), ",".join(cells)]
    source = write(tmp_path, *others, header=first)
    assert source.classes == ("dog",)
    np.testing.assert_allclose(source[0]["boxes"][0], [0.1, 0.25, 0.5, 0.75], rtol=1e-6)


def test_a_list_without_header_may_begin_with_an_image_without_boxes(tmp_path):
    source = write(tmp_path, "a.png,5,10,25,30,dog", header="b.png,,,,,")
    assert [len(source[i]["boxes"]) for i in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("image,path,class,xmin,ymin,xmax,ymax", "image, path, and it is not clear"),
        ("filename,label,name,xmin,ymin,xmax,ymax", "label, name, and it is not clear"),
        ("filename,class,x1,y1,x2,y2,x_min,y_min,x_max,y_max", "x_min, .*, x1, .* not clear"),
        ("filename,class,x,y,w,h", "no xmin, ymin, xmax, ymax: not a list"),
    ],
)
def test_columns_that_may_mean_two_things_are_refused(tmp_path, header, words):
    with pytest.raises(DataError, match=words):
        write(tmp_path, "a,b,c", header=header)


def test_bad_boxes_of_other_columns_are_refused(tmp_path):
    header = "image,label,bbox_x,bbox_y,bbox_width,bbox_height"
    for row, words in [
        ("a.png,cat,5,5,-3,4", "line 2: reversed corners"),
        ("a.png,cat,5,5,x,4", "line 2: bbox_width is 'x', not a number"),
    ]:
        with pytest.raises(DataError, match=words):
            write(tmp_path, row, header=header)
    with pytest.raises(DataError, match="line 2: not as many cells as a box: path"):
        write(tmp_path, "b.png,1,2", header="a.png,5,10,25,30,dog")


def test_images_are_found_by_their_names_where_the_path_does_not_exist(tmp_path):
    for folder in ("x", "y", ".hidden", "__MACOSX"):
        (tmp_path / folder).mkdir()
    for place in ("x/c.png", "x/d.png", "y/d.png", ".hidden/c.png", "__MACOSX/c.png"):
        cv2.imwrite(str(tmp_path / place), np.full((40, 50, 3), 90, np.uint8))
    rows = [f"{name},50,40,cat,1,1,9,9" for name in (r"C:\\photos\\c.png", "old/a.png", "b")]
    source = write(tmp_path, *rows)
    assert [source.name(i) for i in range(3)] == ["c.png", "a.png", "b.png"]
    with pytest.raises(DataError, match="d.png: cannot read the image"):
        write(tmp_path, "elsewhere/d.png,50,40,cat,1,1,9,9")


def test_what_is_corrected_is_counted(tmp_path):
    rows = ("cat,5,5,5,9", "cat,40,30,60,50", "cat,40,30,60,50", "dog,40,30,60,50")
    source = write(tmp_path, *(f"a.png,100,80,{row}" for row in rows))
    assert len(source[0]["boxes"]) == 2
    for text in ("1 boxes without area", "2 boxes clipped", "1 boxes that occur twice",
                 "1 wrong sizes in annotations"):  # fmt: skip
        assert text in source.summary()


def test_a_size_that_is_no_number_says_nothing(tmp_path):
    source = write(tmp_path, f"a.png,{'9' * 5000},40,cat,1,1,9,9", "b.png,x,,cat,1,1,9,9")
    assert source[0]["size"] == source[1]["size"] == (40, 50)


def test_rows_of_one_file_are_one_image_however_they_spell_it(tmp_path):
    (tmp_path / "sub").mkdir()
    names = ("a.png", "./a.png", "sub/../a.png", str(tmp_path / "a.png"))
    rows = [f"{name},50,40,cat,1,1,9,{9 + i}" for i, name in enumerate(names)]
    source = write(tmp_path, rows[0], "b.png,50,40,cat,1,1,9,9", *rows[1:], rows[0])
    assert [source.name(i) for i in range(len(source))] == ["a.png", "b.png"]
    assert len(source[0]["boxes"]) == 4
    assert "1 boxes that occur twice dropped" in source.summary()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.png,50,40,cat,9,9,3,20", "line 3: reversed corners"),
        ("a.png,50,40,cat,1,nan,3,20", "line 3: ymin is 'nan', not a number"),
        ("a.png,50,40,cat,1,,3,20", "line 3: ymin is ''"),
        ("a.png,50,40,,1,1,3,20", "line 3: a box without class"),
        (",50,40,cat,1,1,3,20", "line 3: no filename"),
        ("a.png,50,40,cat,1,1,3", "line 3: not as many cells"),
        ("a.png,50,40,cat,1,1,3,4,5", "line 3: not as many cells"),
        ("c.png,50,40,cat,1,1,3,4", "c.png: cannot read the image"),
        ("a.png,40,50,cat,1,1,3,4", "a.png: rows with different sizes"),
        ("b.png,40,50,cat,1,1,3,4", "b.png: 50x40 pixels, and its annotation is of 40x50"),
        ('a.png,50,40,"cat,1,1,3,4', "list.csv: not a CSV file"),
        (f"a.png,50,40,cat,1,{'9' * 5000},3,20", r"line 3: ymin is '9+\.\.\.9+', not"),
        (f"b.png,{'9' * 400},40,cat,1,1,3,4", r"b.png: 50x40 pixels, .* of 9+\.\.\.9+x40"),
        ("a\0.png,50,40,cat,1,1,3,4", r"a\\x00.png.*: cannot read the image"),
        (f"{'a' * 300}.png,50,40,cat,1,1,3,4", "a.png: cannot read the image"),
        (".,50,40,cat,1,1,3,4", r"cannot read the image \(not a regular file\)"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, row, words):
    with pytest.raises(DataError, match=words):
        write(tmp_path, "a.png,50,40,cat,1,1,9,9", row)


def test_a_file_that_is_no_list_is_refused(tmp_path):
    for header, rows, words in [
        ("filename,class", ["a.png,cat"], "no xmin, ymin, xmax, ymax"),
        (HEADER, [], "no rows"),
        (HEADER, ["a.png,50,40,,,,,"], "no classes; name them"),
    ]:
        with pytest.raises(DataError, match=words):
            write(tmp_path, *rows, header=header)
    with pytest.raises(DataError, match="unknown class 'cat'"):
        write(tmp_path, "a.png,50,40,cat,1,1,9,9", classes=("dog",))
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a CSV file"):
        csv_file.read(tmp_path, tmp_path / "list.csv")
    with pytest.raises(DataError, match="cannot read the list"):
        csv_file.read(tmp_path, tmp_path / "none.csv")


def test_raccoons_have_the_boxes_of_their_xml_files(real_data, tmp_path):
    folder = real_data / "raccoon"
    (tmp_path / "JPEGImages").symlink_to(folder / "images")
    (tmp_path / "Annotations").symlink_to(folder / "annotations")
    expected = voc.read(tmp_path, "")
    by_name = {expected.name(i): i for i in range(len(expected))}
    parts = [
        csv_file.read(folder / "images", folder / "data" / f"{part}_labels.csv")
        for part in ("train", "test")
    ]
    assert [len(part) for part in parts] == [160, 40]
    assert not {parts[0].name(i) for i in range(160)} & {parts[1].name(i) for i in range(40)}
    for part in parts:
        for i in range(len(part)):
            example, other = part[i], expected[by_name[part.name(i)]]
            np.testing.assert_array_equal(example["image"], other["image"])
            order, other_order = (np.lexsort(each["boxes"].T) for each in (example, other))
            np.testing.assert_allclose(
                example["boxes"][order], other["boxes"][other_order], atol=1e-7
            )
