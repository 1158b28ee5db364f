"""Names of drawn pictures, and files that they must not replace."""

from pathlib import Path

import pytest

from ssd_jax.errors import ConfigError
from ssd_jax.prediction.inputs import Input, Kind, find_inputs
from ssd_jax.prediction.outputs import name_outputs, plan_outputs


def inputs(*names, kind=Kind.PICTURE):
    return [Input(Path("in", name), name, "in", kind) for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "sub/b.png", "c.tiff", "d"], ["a.jpg", "sub/b.png", "c.jpg", "d.jpg"]),
        (["a.bmp", "a.jpg", "a.png", "a_2.jpg"], ["a.jpg", "a_2.jpg", "a.png", "a_2_2.jpg"]),
        (["A.jpg", "a.jpg", "sub/a.jpg"], ["A.jpg", "a_2.jpg", "sub/a.jpg"]),
        (["a.b.jpg", "a.PNG"], ["a.b.jpg", "a.png"]),
        (["x" * 255, "x" * 254], ["x" * 251 + ".jpg", "x" * 249 + "_2.jpg"]),
        (["é" * 127], ["é" * 125 + ".jpg"]),
    ],
)
def test_names_are_those_of_the_inputs(names, expected):
    assert name_outputs(inputs(*names)) == expected


def test_what_has_frames_becomes_a_video():
    clips = inputs("a.avi", kind=Kind.VIDEO) + inputs("a.gif", kind=Kind.ANIMATION)
    camera = inputs("camera0", kind=Kind.CAMERA)
    assert name_outputs(clips + camera) == ["a.mp4", "a_2.mp4", "camera0.mp4"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "b.bmp"):
        (folder / name).write_bytes(b"")
    return folder


def plan(value, output):
    return plan_outputs(find_inputs([str(value)], output)[0], output)


def test_an_output_inside_the_input_or_above_it(folder):
    assert plan(folder, folder / "found") == [
        folder / "found" / name for name in ("a.jpg", "b.jpg")
    ]
    assert plan(folder / "a.jpg", folder.parent) == [folder.parent / "a.jpg"]
    assert plan(folder / "b.bmp", folder) == [folder / "b.jpg"]


@pytest.mark.parametrize("link", [False, True])
def test_an_input_is_never_replaced(folder, link):
    output = folder
    if link:
        output = folder.parent / "link"
        output.symlink_to(folder)
    with pytest.raises(ConfigError, match=r"would replace the input .*a\.jpg"):
        plan(folder / "a.jpg", output)


def test_another_file_is_replaced_only_after_an_earlier_prediction(folder):
    (folder / "b.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds .*b\.jpg, and no detections\.json"):
        plan(folder / "b.bmp", folder)
    (folder / "detections.json").write_text("[]")
    assert plan(folder / "b.bmp", folder) == [folder / "b.jpg"]
