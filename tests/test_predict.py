import json
import logging
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import micro
import numpy as np
import pytest
from commands import ROOT, call, command
from PIL import Image

import ssd_jax
from ssd_jax import evaluate, predict, training
from ssd_jax.data import augment, decode, sources
from ssd_jax.errors import CheckpointError, ConfigError, DataError, ResourceError, StoppedBySignal
from ssd_jax.prediction import pictures as pictures_of_inputs
from ssd_jax.result import Picture, Result
from ssd_jax.runtime import devices
from ssd_jax.types import Detections


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose checkpoint is hardly trained: its boxes are nonsense, but boxes."""
    folder = tmp_path_factory.mktemp("run")
    training.train_and_evaluate(micro.get_config(steps=2), folder)
    return folder


@pytest.fixture
def pictures(tmp_path):
    """Photographs of different sizes, one of them gray, one in a format of its own."""
    folder = tmp_path / "in put"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in [("b.jpg", (60, 90, 3)), ("a é.png", (33, 20, 3)), ("c.jpeg", (50, 50))]:
        _, data = cv2.imencode(name[name.index(".") :], rng.integers(0, 255, shape, np.uint8))
        (folder / name).write_bytes(data.tobytes())
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_a_folder_gives_pictures_and_coco_results(run, pictures, tmp_path, capsys):
    output = tmp_path / "out"
    results = predict.predict_files(run, [str(pictures)], output, 0.05)
    assert json.loads((output / "detections.json").read_text()) == results
    assert results, "the untrained network should find something at this threshold"
    names, sizes = ["a é.png", "b.jpg", "c.jpeg"], [(20, 33), (90, 60), (50, 50)]
    for result in results:
        assert result["file_name"] == names[result["image_id"]]
        assert result["category_name"] == sources.shapes.CLASSES[result["category_id"] - 1]
        assert result["score"] >= 0.05 and "frame" not in result
        x, y, w, h = result["bbox"]
        width, height = sizes[result["image_id"]]
        assert x >= 0 and y >= 0 and x + w <= width + 0.01 and y + h <= height + 0.01
    written = sorted(path.name for path in output.iterdir())
    assert written == ["a é.png", "b.jpg", "c.jpg", "detections.json"]
    assert decode.read_image(output / "b.jpg").shape == (300, 450, 3)  # enlarged
    assert decode.read_image(output / "a é.png").shape == (495, 300, 3)
    said = capsys.readouterr().out
    assert "detections in 3 pictures" in said and "left out: 1 .txt" in said


def test_the_threshold_and_the_batch_do_not_change_what_is_found(run, pictures, tmp_path):
    everything = predict.predict_files(run, [str(pictures)], tmp_path / "a", 0.0)
    sure = predict.predict_files(run, [str(pictures)], tmp_path / "b", 0.1)
    assert sure == [result for result in everything if result["score"] >= 0.1]
    alone = predict.predict_files(run, [str(pictures / "b.jpg")], tmp_path / "c", 0.0)
    together = [result for result in everything if result["file_name"] == "b.jpg"]
    assert len(alone) == len(together)
    for one, other in zip(alone, together):
        np.testing.assert_allclose(one["bbox"], other["bbox"], atol=0.01)


def test_predictions_agree_with_the_evaluation(run):
    """The same scene through a file and through the evaluator's loader."""
    predictor = ssd_jax.load(run)
    source = sources.make_source(("shapes:test:3",), micro.get_config())
    images = [Picture(i, None, None, source[i]["image"]) for i in range(3)]
    from_files = predictor.detect(images)
    evaluator = evaluate.Evaluator(predictor.detector, source, predictor._runner)
    evaluated = [row for _, rows in evaluator._detect_batches(predictor._variables) for row in rows]
    for expected, found in zip(evaluated[:3], from_files):
        np.testing.assert_array_equal(found.labels, expected["labels"])
        np.testing.assert_allclose(found.relative_boxes, expected["boxes"], atol=1e-6)


def test_arrays_and_paths_of_any_size_are_predicted_in_python(run, pictures, tmp_path):
    """As `predict_files` on the same images; boxes are pixels of each image."""
    paths = sorted(pictures.glob("*.*g"))
    results = predict.predict_files(run, [str(pictures)], tmp_path / "out", 0.1)
    predictor = ssd_jax.load(run)
    mixed = [decode.read_image(paths[0]), paths[1], str(paths[2])]
    found = predictor(mixed, score_threshold=0.1)
    assert len(found) == 3 and sum(map(len, found)) == len(results) > 0
    for image_id, each in enumerate(found):
        expected = [result for result in results if result["image_id"] == image_id]
        assert each.names == [result["category_name"] for result in expected]
        x_min, y_min, x_max, y_max = each.boxes.T
        xywh = np.stack([x_min, y_min, x_max - x_min, y_max - y_min], 1)
        np.testing.assert_allclose(xywh, [r["bbox"] for r in expected], atol=0.02)
        np.testing.assert_allclose(each.scores, [r["score"] for r in expected], atol=1e-4)
    assert predictor([]) == []


@pytest.fixture(scope="module", params=["pmap", "jit"])
def run_of_16(tmp_path_factory, request):
    """A run whose evaluations and predictions have batches of 16."""
    folder = tmp_path_factory.mktemp("run")
    config = micro.get_config(steps=2, eval_batch_size=16, parallel=request.param)
    training.train_and_evaluate(config, folder)
    return folder


def scenes(count):
    source = sources.make_source((f"shapes:test:{count}",), micro.get_config())
    return [source[index]["image"] for index in range(count)]


def rows_of(predictor, monkeypatch):
    """The list to which each batch that the predictor sends to the devices adds its rows."""
    rows, shard = [], type(predictor._runner).shard

    def noted(self, batch):
        rows.append(len(batch["image"]))
        return shard(self, batch)

    monkeypatch.setattr(type(predictor._runner), "shard", noted)
    return rows


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [2]),
        (4, [2, 2]),
        (5, [16]),
        (16, [16]),
        (18, [16, 2]),
        (35, [16, 16, 2, 2]),
        (38, [16, 16, 16]),
    ],
)
def test_one_picture_fills_no_batch_of_many(run_of_16, monkeypatch, count, expected):
    """On two devices a small batch has two rows; what is found is the same in either."""
    predictor = ssd_jax.load(run_of_16)
    rows, images = rows_of(predictor, monkeypatch), scenes(count)
    found = predictor(images, score_threshold=0.05)
    assert rows == expected and len(found) == count
    (alone,) = predictor(images[-1:], score_threshold=0.05)
    assert len(alone) == len(found[-1]) > 0
    np.testing.assert_allclose(alone.boxes, found[-1].boxes, atol=1e-3)
    np.testing.assert_allclose(alone.scores, found[-1].scores, atol=1e-3)


def test_two_programs_are_compiled_each_when_it_is_needed(run_of_16, caplog):
    predictor, images = ssd_jax.load(run_of_16), scenes(18)

    def compiled():
        names = [record.getMessage().partition(" with ")[0] for record in caplog.records]
        return sum(name in ("Compiling jit(_fun)", "Compiling jit(predict)") for name in names)

    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        predictor(images[:1])
        assert compiled() == 1
        predictor(images[:16])
        assert compiled() == 2
        predictor(images)
        predictor(images[:3])
    assert compiled() == 2


def test_the_batch_of_an_evaluation_does_not_change_its_scores(run_of_16):
    scores = [
        evaluate.evaluate_run(run_of_16, micro.get_config(eval_batch_size=size), "latest")
        for size in (16, 0)
    ]
    assert scores[0] == pytest.approx(scores[1], nan_ok=True, abs=1e-6)


@pytest.mark.parametrize("kind", [devices.Pmap, devices.Jit])
def test_a_batch_is_computed_while_the_one_before_is_used(kind):
    """The program of a batch is started, and its successor read, before the first is handed on."""
    runner, happened, third = kind(), [], threading.Event()

    def batches():
        for number in range(4):
            if number == 2:
                third.set()
            yield number, np.full((2, 1, 1, 3), number, np.uint8)

    def started(variables, images):
        happened.append("start")
        return compiled(variables, images)

    def predict_mean(variables, images):
        mean = images.mean((1, 2, 3))[:, None] * variables["scale"]
        return Detections(jnp.tile(mean[..., None], (1, 1, 4)), mean, mean.astype(jnp.int32))

    compiled = runner.compile_predict(predict_mean)
    variables = runner.replicate({"scale": np.float32(2)})
    for number, found in evaluate.detect_batches(runner, started, variables, batches()):
        happened.append(number)
        if number == 0:
            assert third.wait(60)
        assert [each["scores"].tolist() for each in found] == [[2 * number]] * 2
    assert happened == ["start", "start", 0, "start", 1, "start", 2, 3]


def test_an_error_in_a_thread_is_the_error_of_the_call(run, monkeypatch):
    """Of reading and resizing, and no thread is left behind."""
    predictor, before = ssd_jax.load(run), set(threading.enumerate())
    monkeypatch.setattr(augment, "resize", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predictor(scenes(9))
    assert set(threading.enumerate()) <= before


def test_one_image_of_any_kind_has_one_result(run, pictures):
    predictor, path = ssd_jax.load(str(run)), pictures / "b.jpg"
    pixels = decode.read_image(path)
    (expected,) = predictor([path], 0.1)
    assert len(expected)
    for image in (path, str(path), pixels, Image.fromarray(pixels), Image.open(path)):
        found = predictor(image, 0.1)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.scores, expected.scores)
    gray = predictor(Image.fromarray(pixels).convert("L"), 0.0)
    assert gray.picture.image.shape == pixels.shape


def test_a_photograph_of_a_phone_is_upright(run, tmp_path):
    """The sensor's rows are columns of the picture, which EXIF says; an array has no EXIF."""
    stored = scenes(1)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show it
    Image.fromarray(stored).resize((120, 80)).save(tmp_path / "phone.png", exif=exif)
    predictor = ssd_jax.load(run)
    upright = np.rot90(np.asarray(Image.fromarray(stored).resize((120, 80))), -1)
    expected = predictor(np.ascontiguousarray(upright), 0.05)
    assert len(expected)
    for image in (tmp_path / "phone.png", Image.open(tmp_path / "phone.png")):
        found = predictor(image, 0.05)
        np.testing.assert_array_equal(found.picture.image, upright)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
    result = predict.predict_files(run, [str(tmp_path / "phone.png")], tmp_path / "out", 0.05)[0]
    assert (result["image_height"], result["image_width"]) == (120, 80)
    drawn = decode.read_image(tmp_path / "out" / "phone.png")
    assert drawn.shape == (480, 320, 3)


def test_threads_may_share_a_predictor(run):
    predictor, images = ssd_jax.load(run), scenes(8)
    expected = [predictor(image, 0.05) for image in images]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda image: predictor(image, 0.05), images))
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_what_is_no_image_is_refused_in_python(run, pictures):
    predictor = ssd_jax.load(run)
    for image in (np.zeros((4, 4, 3)), [np.zeros((4, 4, 3))]):
        with pytest.raises(TypeError, match=r"not float64 \(4, 4, 3\)"):
            predictor(image)
    for image in (pictures / "nothing.jpg", [str(pictures / "nothing.jpg")]):
        with pytest.raises(DataError, match="nothing.jpg"):
            predictor(image)


def test_the_input_is_never_overwritten(run, pictures):
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}
    with pytest.raises(ConfigError, match="holds the input"):
        predict.predict_files(run, [str(pictures)], pictures, 0.5)
    assert {path.name: path.read_bytes() for path in pictures.iterdir()} == before


def test_a_video_that_is_none_does_not_stop_the_others(run, pictures, tmp_path):
    (pictures / "a.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"a\.mp4: not a video"):
        predict.predict_files(run, [str(pictures / "*.*")], tmp_path / "out", 0.0)
    assert (tmp_path / "out" / "detections.json").exists()


def test_a_damaged_picture_is_reported_after_the_others_are_done(run, pictures, tmp_path):
    whole = (pictures / "b.jpg").read_bytes()
    (pictures / "b.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b\.jpg: truncated"):
        predict.predict_files(run, [str(pictures)], tmp_path / "out", 0.0)
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {result["file_name"] for result in results} == {"a é.png", "c.jpeg"}
    assert {result["image_id"] for result in results} == {0, 2}


def write_video(path, frames, rate=5):
    path.parent.mkdir(exist_ok=True, parents=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    for frame in random_frames(frames):
        writer.write(frame)
    writer.release()


def random_frames(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(count)]


def test_a_video_gives_a_video_and_frames_in_the_results(run, tmp_path):
    path = tmp_path / "clip.avi"
    write_video(path, 6)
    results = predict.predict_files(run, [str(path)], tmp_path / "out", 0.0)
    assert {result["frame"] for result in results} == set(range(6))
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert drawn.read()[1].shape == (336, 448, 3)  # enlarged
    assert drawn.get(cv2.CAP_PROP_FPS) == 5


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_an_animated_image_is_a_video(run, tmp_path, suffix):
    first, *others = map(Image.fromarray, random_frames(4))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / f"clip{suffix}"
    first.save(path, save_all=True, append_images=others, duration=200)
    results = predict.predict_files(run, [str(tmp_path / "in")], tmp_path / "out", 0.0)
    assert {result["frame"] for result in results} == set(range(4))
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (4, 5)


def test_a_gif_of_one_frame_is_a_picture(run, tmp_path):
    Image.fromarray(random_frames(1)[0]).save(tmp_path / "still.gif")
    results = predict.predict_files(run, [str(tmp_path / "still.gif")], tmp_path / "out", 0.0)
    assert results and "frame" not in results[0]
    assert (tmp_path / "out" / "still.jpg").exists()


def test_a_damaged_animation_costs_its_last_frames(run, pictures, tmp_path):
    first, *others = map(Image.fromarray, random_frames(4))
    path = pictures / "clip.gif"
    first.save(path, save_all=True, append_images=others)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"clip\.gif: cannot read the image"):
        predict.predict_files(run, [str(pictures)], tmp_path / "out", 0.0)
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {result["file_name"] for result in results} >= {"a é.png", "b.jpg", "c.jpeg"}


def test_results_name_their_inputs_and_keep_subfolders(run, pictures, tmp_path):
    """Two folders with a picture of the same name, a video below, and a picture named twice."""
    (pictures / "sub").mkdir()
    (pictures / "sub" / "b.jpg").write_bytes((pictures / "b.jpg").read_bytes())
    write_video(pictures / "sub" / "clip.avi", 2)
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.jpg").write_bytes((pictures / "b.jpg").read_bytes())
    given, output = [str(pictures), str(other), str(pictures / "b.jpg")], pictures / "found"
    for _ in range(2):  # the second time, the output is not read
        results = predict.predict_files(run, given, output, 0.0)
        names = {(each["image_id"], each["input"], each["file_name"]) for each in results}
        assert sorted(names) == [
            (0, given[0], "a é.png"), (1, given[0], "b.jpg"), (2, given[0], "c.jpeg"),
            (3, given[0], "sub/b.jpg"), (4, given[0], "sub/clip.avi"), (5, given[1], "b.jpg"),
        ]  # fmt: skip
        written = sorted(str(path.relative_to(output)) for path in output.rglob("*.*"))
        assert written == [
            "a é.png", "b.jpg", "b_2.jpg", "c.jpg", "detections.json", "sub/b.jpg", "sub/clip.mp4",
        ]  # fmt: skip


def test_some_classes_alone(run, pictures, tmp_path):
    everything = predict.predict_files(run, [str(pictures)], tmp_path / "a", 0.0)
    first, second, *_ = sources.shapes.CLASSES
    two = predict.predict_files(
        run, [str(pictures)], tmp_path / "b", 0.0, classes=[second, first]
    )  # fmt: skip
    assert two == [each for each in everything if each["category_name"] in (first, second)]
    assert 0 < len(two) < len(everything)


def test_a_class_that_the_run_does_not_have():
    assert predict.find_labels(["tv", "cat"], ("cat", "dog", "tv")) == [1, 3]
    assert predict.find_labels([], ("cat", "dog")) == [1, 2]
    with pytest.raises(ConfigError, match="--classes=Traffic ligth: .* did you mean traffic light"):
        predict.find_labels(["cat", "Traffic ligth"], ("cat", "traffic light"))
    with pytest.raises(ConfigError, match="it has cat, dog"):
        predict.find_labels(["submarine"], ("cat", "dog"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done(run, pictures, tmp_path, monkeypatch, number):
    """Each picture that was written has its detections, and no other has."""
    for i in range(200):
        (pictures / f"d{i:03d}.jpg").write_bytes((pictures / "b.jpg").read_bytes())
    draw = Result.draw

    def draw_and_signal(result):
        if result.picture.path.name == "d005.jpg":
            os.kill(os.getpid(), number)
        return draw(result)

    monkeypatch.setattr(Result, "draw", draw_and_signal)
    before = signal.getsignal(number)
    with pytest.raises(StoppedBySignal) as stopped:
        predict.predict_files(run, [str(pictures)], tmp_path / "out", 0.0)
    assert stopped.value.exit_code == 128 + number and signal.getsignal(number) is before
    written = {path.stem for path in (tmp_path / "out").glob("*.*g")}
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {Path(result["file_name"]).stem for result in results} == written
    assert {"b", "d005"} <= written and len(written) < 203
    assert f"interrupted: {len(written)} of 203 pictures are done" in str(stopped.value)


def test_ctrl_c_as_a_user_types_it(run, tmp_path):
    """A long video: exit code 130, and the video so far can be played."""
    write_video(tmp_path / "long.avi", 3000)
    process = subprocess.Popen(
        command("predict", f"--workdir={run}", f"--input={tmp_path / 'long.avi'}",
                f"--output={tmp_path / 'out'}", "--score_threshold=0"),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    video = tmp_path / "out" / "long.mp4"
    for _ in range(600):
        if video.exists() and video.stat().st_size > 100_000:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    done = int(re.search(r"interrupted: (\d+) of 3000 pictures are done", error)[1])
    assert f"detections in {done} pictures" in said and "Traceback" not in error
    assert cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT) == done
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert max(result["frame"] for result in results) == done - 1


class FakeCamera:
    """A camera that gives some frames."""

    frames, opened = 5, True

    def __init__(self, number):
        assert number == 0
        self.left, self.released = random_frames(self.frames), False

    def isOpened(self):
        return self.opened

    def set(self, name, value):
        return True

    def read(self):
        return (True, self.left.pop()) if self.left else (False, None)

    def release(self):
        self.released = True


@pytest.fixture
def camera(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures_of_inputs.cv2, "VideoCapture", FakeCamera)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return FakeCamera


def test_a_camera_without_a_display_is_written_as_a_video(run, camera, tmp_path, capsys):
    with pytest.raises(ResourceError, match="camera 0 gives no more pictures"):
        predict.predict_files(run, ["0"], tmp_path / "out", 0.0)
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {result["frame"] for result in results} == set(range(5))
    assert {result["file_name"] for result in results} == {"camera0"}
    assert (tmp_path / "out" / "camera0.mp4").stat().st_size > 1000
    assert "no display" in capsys.readouterr().err


def test_a_camera_is_shown_until_q_is_typed(run, camera, tmp_path, monkeypatch):
    """Each frame is shown before the next is taken."""
    shown, keys = [], [255, 255, ord("q")]
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda _: keys.pop(0))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    results = predict.predict_files(run, ["0"], tmp_path / "out", 0.0)
    assert shown == [(336, 448, 3)] * 3 and {each["frame"] for each in results} == {0, 1, 2}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detections.json"]


def test_a_signal_ends_the_picture_of_a_camera(run, camera, tmp_path, monkeypatch):
    read = camera.read

    def read_and_signal(self):
        if len(self.left) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return read(self)

    monkeypatch.setattr(camera, "read", read_and_signal)
    with pytest.raises(StoppedBySignal, match="interrupted: 4 pictures are done"):
        predict.predict_files(run, ["0"], tmp_path / "out", 0.0)


def test_a_camera_that_cannot_be_opened(run, camera, tmp_path, monkeypatch):
    monkeypatch.setattr(camera, "opened", False)
    with pytest.raises(ResourceError, match="--input=0: camera 0 cannot be opened"):
        predict.predict_files(run, ["0"], tmp_path / "out", 0.0)


def test_paths_below_home(run, pictures, tmp_path):
    home = {**os.environ, "HOME": str(tmp_path)}
    found = call("predict", f"--workdir={run}", "--input=~/in put/b.jpg", "--output=~/out",
                 env=home)  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "out" / "b.jpg").exists()


def test_a_folder_that_is_no_run(tmp_path, pictures):
    with pytest.raises(CheckpointError, match="not a run"):
        predict.predict_files(tmp_path, [str(pictures)], tmp_path / "out", 0.5)


def test_names_as_long_as_they_may_be_give_shorter_ones(run, pictures, tmp_path):
    data = (pictures / "b.jpg").read_bytes()
    for stem in ("x" * 251, "é" * 125):
        (pictures / f"{stem}.jpg").write_bytes(data)
    predict.predict_files(run, [str(pictures)], tmp_path / "out", 0.5)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.jpg"))
    assert names == ["b.jpg", "c.jpg", f"{'x' * 251}.jpg", f"{'é' * 125}.jpg"]


def test_a_picture_that_cannot_be_written_costs_that_picture(run, pictures, tmp_path, capsys):
    output = tmp_path / "out"
    (output / "b.jpg").mkdir(parents=True)
    with pytest.raises(ResourceError, match=r"cannot write .*b\.jpg") as failure:
        predict.predict_files(run, [str(pictures)], output, 0.0)
    assert failure.value.exit_code == 6 and str(failure.value).count("\n") == 0
    assert {path.name for path in output.iterdir() if path.is_file()} == {
        "a é.png", "c.jpg", "detections.json",
    }  # fmt: skip
    found = json.loads((output / "detections.json").read_text())
    assert {result["file_name"] for result in found} == {"a é.png", "b.jpg", "c.jpeg"}


def test_words_that_stand_alone_are_pictures(run, pictures, tmp_path):
    names = [str(path) for path in sorted(pictures.glob("*.*g"))]
    result = call("predict", f"--workdir={run}", f"--output={tmp_path / 'out'}", *names)
    assert result.returncode == 0, result.stderr
    assert f"in {len(names)} pictures" in result.stdout
    result = call("predict", f"--workdir={run}")
    assert result.returncode == 2 and "give --input=PICTURES" in result.stderr


def test_earlier_results_stay_where_nothing_could_be_read(run, pictures, tmp_path):
    output = tmp_path / "out"
    results = predict.predict_files(run, [str(pictures)], output, 0.0)
    (pictures / "broken.jpg").write_bytes(b"?")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        predict.predict_files(run, [str(pictures / "broken.jpg")], output, 0.0)
    assert json.loads((output / "detections.json").read_text()) == results


def test_a_run_brings_the_thresholds_of_its_evaluation(run, pictures, tmp_path, capsys):
    """Those of the step that is loaded; a class without one takes that of all."""
    model = ssd_jax.load(run)
    assert not model.has_own_thresholds  # this run detects nothing right
    everything = model(pictures / "b.jpg", score_threshold=0.0)
    middle, low = np.float64(np.quantile(everything.scores, [0.5, 0.25]))
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    path = copy / "metrics.jsonl"
    before = path.read_text()
    line = {"step": 2, "threshold": float(middle), "threshold/disk": float(low)}
    path.write_text(before + json.dumps(line) + "\n")
    model = ssd_jax.load(copy)
    wanted = [low if name == "disk" else middle for name in model.classes]
    np.testing.assert_allclose(model.thresholds, wanted, rtol=1e-6)
    found = model(pictures / "b.jpg")
    kept = everything.scores >= model.thresholds[everything.labels - 1]
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(found.scores, everything.scores[kept])
    predict.predict_files(copy, [str(pictures)], tmp_path / "out", None)
    assert f"F1 was highest at step 2: box {middle:.2f}, disk {low:.2f}" in capsys.readouterr().err
    path.write_text(before + json.dumps(line | {"step": 1}) + "\n")  # of another step
    assert not ssd_jax.load(copy).has_own_thresholds
    predict.predict_files(copy, [str(pictures)], tmp_path / "out", None)
    assert "detections from a score of 0.5 on" in capsys.readouterr().err
