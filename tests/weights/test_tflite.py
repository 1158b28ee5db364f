"""The TensorFlow Lite reader: a file written here, damaged ones, and the released detector."""

import re
import struct
from functools import partial
from pathlib import Path
from typing import NamedTuple

import fuzz
import jax
import numpy as np
import pytest

from configs import ssd300_mobilenet_v1_tflite
from ssd_jax.data.formats import csv_file
from ssd_jax.detector import build_detector, predict
from ssd_jax.errors import CheckpointError
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.parameter_names import flatten_parameters
from ssd_jax.predictor import Predictor
from ssd_jax.result import Picture
from ssd_jax.train_step import abstract_state, inference_variables
from ssd_jax.types import Detections
from ssd_jax.weights import import_run, initialize, tflite
from ssd_jax.weights.imported import ImportedWeights
from ssd_jax.weights.remap import fit_to_model

CODES = {np.dtype(np.float32): 0, np.dtype(np.int32): 2, np.dtype(np.uint8): 3}
LAYER = "FeatureExtractor/MobilenetV1/MobilenetV1/Conv2d_"
KERNEL = "weights_quant/FakeQuantWithMinMaxVars"


def flatbuffer(root):
    """Encode {field: value} tables; a value is (form, number), text, an array, or tables."""
    out = bytearray(8)

    def put(value):
        out.extend(b"\0" * (-len(out) % 4))
        at = len(out)
        if isinstance(value, str | np.ndarray):
            raw = value.encode() if isinstance(value, str) else value.tobytes()
            out.extend(struct.pack("<I", len(value)) + raw)
        elif isinstance(value, list):
            out.extend(struct.pack("<I", len(value)) + bytes(4 * len(value)))
            for i, item in enumerate(value):
                point(at + 4 + 4 * i, put(item))
        else:
            return put_table(value)
        return at

    def point(place, target):
        out[place : place + 4] = struct.pack("<I", target - place)

    def put_table(fields):
        virtual, count = len(out), max(fields, default=-1) + 1
        out.extend(struct.pack("<HH", 4 + 2 * count, 0) + bytes(2 * count))
        out.extend(b"\0" * (-len(out) % 4))
        at = len(out)
        out.extend(struct.pack("<i", at - virtual))
        children = {}
        for field, value in fields.items():
            struct.pack_into("<H", out, virtual + 4 + 2 * field, len(out) - at)
            if isinstance(value, tuple):
                out.extend(struct.pack(*value))
                out.extend(b"\0" * (-len(out) % 4))
            else:
                children[len(out)] = value
                out.extend(bytes(4))
        for place, value in children.items():
            point(place, put(value))
        return at

    out[:8] = struct.pack("<I", put_table(root)) + b"TFL3"
    return bytes(out)


def model(tensors):
    """A file of {name: (array, scale, zero point)}, without a scale where it is None."""
    table = []
    for i, (name, (value, scale, zero)) in enumerate(tensors.items(), start=1):
        fields = {0: np.array(value.shape, np.int32), 1: ("<b", CODES[value.dtype]),
                  2: ("<I", i), 3: name}  # fmt: skip
        if scale is not None:
            fields[4] = {2: np.array([scale], np.float32), 3: np.array([zero], np.int64)}
        table.append(fields)
    buffers = [{}] + [{0: value.reshape(-1).view(np.uint8)} for value, _, _ in tensors.values()]
    return flatbuffer({0: ("<I", 3), 2: [{0: table}], 4: buffers})


def small():
    """A detector's tensors of tiny shapes: one layer of each kind, one head, anchors."""
    number = iter(range(1, 1000))

    def q(*shape):
        return np.array([next(number) % 251 for _ in range(np.prod(shape))], np.uint8).reshape(
            shape
        )

    return {
        f"{LAYER}0/{KERNEL}": (q(2, 3, 3, 3), 0.5, 10),
        f"{LAYER}0/Conv2D_Fold_bias": (np.array([7, -9], np.int32), 0.25, 0),
        f"{LAYER}1_depthwise/{KERNEL}": (q(1, 3, 3, 2), 0.5, 0),
        f"{LAYER}1_depthwise/depthwise_Fold_bias": (np.array([1, 2], np.int32), 0.25, 0),
        f"BoxPredictor_0/BoxEncodingPredictor/{KERNEL}": (q(8, 1, 1, 2), 1.0, 0),
        "BoxPredictor_0/BoxEncodingPredictor/Conv2D_bias": (np.arange(8, dtype=np.int32), 1.0, 0),
        f"BoxPredictor_0/ClassPredictor/{KERNEL}": (q(6, 1, 1, 2), 1.0, 0),
        "BoxPredictor_0/ClassPredictor/Conv2D_bias": (np.arange(6, dtype=np.int32), 1.0, 0),
        "BoxPredictor_0/stack": (np.array([1, 2, 4], np.int32), None, 0),
        "anchors": (np.array([[128, 64, 32, 16]], np.uint8), 1 / 256, 0),
    }


config = ssd300_mobilenet_v1_tflite.get_config()


def read(data):
    return tflite.read(tflite.tensors(data), config)


def fits(data):
    """Through all that stands between a file and a run."""
    return fit_to_model(read(data), LIKE, ("cat", "dog"))


LIKE = read(model(small()))
LIKE = LIKE.params | LIKE.batch_stats


def test_tensors_are_dequantized_and_find_their_place():
    values, found = small(), read(model(small()))
    kernel = values[f"{LAYER}0/{KERNEL}"][0]
    mine = found.params["backbone/Conv2d_0/kernel"]
    assert mine.shape == (3, 3, 3, 2)
    assert mine[0, 1, 2, 1] == 0.5 * (int(kernel[1, 0, 1, 2]) - 10)
    depthwise = values[f"{LAYER}1_depthwise/{KERNEL}"][0]
    mine = found.params["backbone/Conv2d_1_depthwise/kernel"]
    assert mine.shape == (3, 3, 1, 2) and mine[2, 0, 0, 1] == 0.5 * int(depthwise[0, 2, 0, 1])
    np.testing.assert_array_equal(
        found.params["heads/localization_0/bias"], [1, 0, 3, 2, 5, 4, 7, 6]
    )  # (y, x, h, w) of two priors
    np.testing.assert_array_equal(found.params["heads/classification_0/bias"], range(6))
    assert list(found.unused) == ["BoxPredictor_0/stack"]
    np.testing.assert_allclose(  # center y 1/2, x 1/4, height 1/8, width 1/16
        found.priors, [[0.25 - 1 / 32, 0.5 - 1 / 16, 0.25 + 1 / 32, 0.5 + 1 / 16]]
    )


def test_a_folded_bias_is_all_that_the_norm_does():
    found = read(model(small()))
    layer = "backbone/Conv2d_0_BatchNorm"
    mean, variance = found.batch_stats[f"{layer}/mean"], found.batch_stats[f"{layer}/var"]
    scale, bias = found.params[f"{layer}/scale"], found.params[f"{layer}/bias"]
    x = np.array([3.0, -4.0])
    y = (x - mean) / np.sqrt(variance + 1e-3) * scale + bias
    np.testing.assert_allclose(y, x + [1.75, -2.25], rtol=1e-6)


def test_every_cut_and_a_thousand_corruptions_are_refused_or_read():
    few = dict(list(small().items())[-5:])
    like = read(model(few)).params

    def few_fit(data):
        if fit_to_model(read(data), like, ("cat", "dog")) and read(data).priors is None:
            raise CheckpointError("no anchors")

    few_fit(data := model(few))
    for cut in fuzz.cuts(data):
        with pytest.raises(CheckpointError):
            few_fit(cut)
    assert 300 < fuzz.survives(few_fit, data, 1000) < 1000


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("anchors", {"name": "ankers"}, r"ankers \[1, 4\] is of another architecture"),
        (f"{LAYER}0/{KERNEL}", {"shape": (3, 3, 6)}, "where 4 axes were expected"),
        (f"{LAYER}0/{KERNEL}", {"shape": (6, 3, 3, 1)}, r"kernel is \[3, 3, 1, 6\], expected"),
        (f"{LAYER}0/{KERNEL}", {"scale": np.nan}, "kernel has numbers that are not finite"),
        (f"{LAYER}0/{KERNEL}", {"name": f"{LAYER}7/{KERNEL}"}, "Conv2d_0/kernel is absent"),
        ("BoxPredictor_0/ClassPredictor/Conv2D_bias", {"shape": (3, 2)}, "where 1 axes"),
    ],
)
def test_what_does_not_fit_is_named(name, change, message):
    tensors = {}
    for key, (value, scale, zero) in small().items():
        mine = change if key == name else {}
        value = value.reshape(mine.get("shape", value.shape))
        tensors[mine.get("name", key)] = value, mine.get("scale", scale), zero
    with pytest.raises(CheckpointError, match=message):
        fits(model(tensors))


def test_tensors_that_share_bytes_are_refused():
    """A file of a thousand names for one large buffer must not unpack a thousand times."""
    tensor = {0: np.array([4], np.int32), 1: ("<b", 3), 2: ("<I", 1)}
    table = [tensor | {3: f"t{i}"} for i in range(200)]
    buffers = [{}, {0: np.zeros(100_000, np.uint8)}]
    for each in table:
        each[0] = np.array([100_000], np.int32)
    with pytest.raises(CheckpointError, match="twice"):
        tflite.tensors(flatbuffer({2: [{0: table}], 4: buffers}))


@pytest.mark.parametrize("data", [b"", b"hello", b"\0\0\0\0TFL3", b"\x80\x04K\x01." * 40])
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(CheckpointError, match="not a complete TensorFlow Lite file"):
        tflite.tensors(data)


@pytest.mark.parametrize("change", [{"model.std": (1.0, 1.0, 1.0)},
                                    {"loss.classification": "softmax"}])  # fmt: skip
def test_a_config_that_would_read_the_weights_wrongly_is_refused(change):
    other = ssd300_mobilenet_v1_tflite.get_config()
    other.update_from_flattened_dict(change)
    with pytest.raises(CheckpointError, match=re.escape(next(iter(change)))):
        tflite.read({}, other)


class Released(NamedTuple):
    folder: Path
    weights: ImportedWeights
    golden: dict
    scores: np.ndarray  # [B, A, C]
    offsets: np.ndarray  # [B, A, 4]
    found: Detections  # [B, K]


@pytest.fixture(scope="module")
def released(real_data):
    """The released detector: its folder, the recorded outputs, and ours on the same images."""
    folder = real_data / "ssd_mobilenet_v1_coco"
    weights = read((folder / "detect.tflite").read_bytes())
    detector = build_detector(config, len(config.data.classes) + 1)
    like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_state(detector))
    fitted = fit_to_model(
        weights,
        flatten_parameters(like.params) | flatten_parameters(like.batch_stats),
        config.data.classes,
    )
    state = initialize.with_weights(detector, like, fitted.tensors)
    with np.load(folder / "golden_voc16.npz") as file:
        golden = dict(file)
    images = (golden["images_uint8"].astype(np.float32) - 127.5) / 127.5
    variables = inference_variables(state)
    logits, offsets = jax.jit(partial(detector.model.apply, train=False))(variables, images)
    detector = detector._replace(priors=detector.priors._replace(boxes=weights.priors))
    found = jax.jit(partial(predict, detector))(variables, golden["images_uint8"])
    return Released(folder, weights, golden, np.asarray(jax.nn.sigmoid(logits)),
                    np.asarray(offsets), jax.device_get(found))  # fmt: skip


def test_the_classes_are_those_of_the_label_map(released):
    lines = (released.folder / "labelmap.txt").read_text().splitlines()
    assert lines[0] == "???" and len(lines) == len(config.data.classes) + 1
    for i, name in enumerate(config.data.classes, start=1):
        assert name == (f"unused {i}" if lines[i] == "???" else lines[i])
    assert len(set(config.data.classes)) == 90


def test_priors_are_the_files_own_and_near_the_configs(released):
    own, theirs = build_detector(config, 2).priors.boxes, released.weights.priors
    for priors, key in ((own, "anchors_analytic"), (theirs, "anchors_quant")):
        anchors = released.golden[key][:, [1, 0, 3, 2]]  # from (y, x, h, w)
        np.testing.assert_allclose(priors, box_ops.to_corners(anchors), atol=1e-6)
    assert 0 < np.abs(theirs - own).max() < 0.005


def test_scores_agree_with_the_quantized_interpreter(released):
    theirs = released.golden["score_q"].astype(np.float32) / 256
    high = theirs > 0.3
    difference = np.abs(released.scores - theirs)[high]
    assert len(difference) == 1805 and difference.mean() <= 0.01  # measured: .0064
    sure = theirs[..., 1:].max(-1) > 0.3
    same = released.scores[..., 1:].argmax(-1) == theirs[..., 1:].argmax(-1)
    assert same[sure].mean() >= 0.98  # measured: .984


def best(released):
    """(image, box, label) of the interpreter's ten best an image, those that score .3 or more."""
    for image, rows in enumerate(released.golden["tflite_top10_ymin_xmin_ymax_xmax_class0_score"]):
        for y_min, x_min, y_max, x_max, label, _ in rows[rows[:, 5] >= 0.3]:
            box = np.array([[x_min, y_min, x_max, y_max]], np.float32)
            yield image, box_ops.clip(box), int(label) + 1


def test_the_interpreters_best_are_among_the_raw_outputs(released):
    decoded = jax.vmap(box_ops.decode, (0, None))(released.offsets, released.weights.priors)
    classes = released.scores[..., 1:].argmax(-1) + 1
    missed = [
        (image, box, label)
        for image, box, label in best(released)
        if box_ops.iou(box, box_ops.clip(np.asarray(decoded))[image][classes[image] == label]).max()
        < 0.9
    ]
    assert not missed


def test_the_interpreters_best_are_detected(released):
    assert config.postprocess.iou_threshold == 0.6
    hits = [
        box_ops.iou(box, released.found.boxes[image][released.found.labels[image] == label]).max(
            initial=0.0
        )
        >= 0.9
        for image, box, label in best(released)
    ]
    print(len(hits), np.mean(hits))
    assert len(hits) > 30 and np.mean(hits) >= 0.95


@pytest.mark.slow
def test_raccoons_are_found_as_other_animals(real_data, tmp_path, capsys):
    """The figures of docs/weights.md: COCO has no raccoons, but cats, dogs and bears."""
    folder = real_data / "raccoon"
    source = str(real_data / "ssd_mobilenet_v1_coco" / "detect.tflite")
    import_run.import_run(source, "tflite", config, tmp_path)
    source = csv_file.read(folder / "images", folder / "data" / "raccoon_labels.csv")
    predictor = Predictor(load_run(tmp_path))
    pictures = (
        Picture(i, folder / "images" / source.name(i), None, source[i]["image"])
        for i in range(len(source))
    )
    names, covered = [], 0
    for found in predictor.detect(pictures, 0.5):
        classes = found.names
        others = found.relative_boxes[[name != "person" for name in classes]]
        truths = source[found.picture.image_id]["boxes"]
        covered += int((box_ops.iou(truths, others).max(1, initial=0) >= 0.5).sum())
        names += classes
    alike = sum(name in ("cat", "dog", "bear") for name in names)
    with capsys.disabled():
        print(
            f"\n{len(names)} detections, {alike} cats, dogs and bears, {covered} raccoons covered"
        )
    assert len(source) == 200
    assert alike > len(names) / 2 and covered > 0.8 * 217
