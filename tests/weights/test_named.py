"""Weights by name: the catalog, and each kind of file from a server of this machine."""

import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path

import loopback
import micro
import numpy as np
import pth_files
import pytest
from commands import call
from golden import make_torchvision as golden
from PIL import Image

import ssd_jax
from configs import ssd300_resnet50_coco
from ssd_jax import predict
from ssd_jax.config import packaged
from ssd_jax.config.schema import WEIGHT_FORMATS
from ssd_jax.detector import build_detector
from ssd_jax.errors import CheckpointError, ConfigError, ResourceError
from ssd_jax.multibox import boxes as box_ops
from ssd_jax.parameter_names import flatten_parameters
from ssd_jax.runs.folder import read_run_info
from ssd_jax.runtime import download
from ssd_jax.train_step import init_state
from ssd_jax.weights import files, initialize, named, torchvision
from ssd_jax.weights.coco_classes import COCO_CLASSES
from ssd_jax.weights.import_run import import_detector, import_run, load_detector
from ssd_jax.weights.imported import ImportedWeights

SHAPES = json.loads(str(np.load(golden.FILE)["shapes"]))
MICRO_NAME = "torchvision:micro"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def path_of(name):
    """Of the file below a mirror."""
    return named.NAMES[name].address.removeprefix("https:/")


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A mirror on this machine, and an empty cache."""
    monkeypatch.setattr(download, "_FIRST_WAIT", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with loopback.serve() as server:
        monkeypatch.setenv(named.MIRROR, server.url)
        yield server


@pytest.fixture
def catalog(monkeypatch):
    """Changes entries for a test."""
    names = dict(named.NAMES)
    monkeypatch.setattr(named, "NAMES", names)

    def change(name, **changes):
        names[name] = names[name]._replace(**changes)

    change.names = names
    return change


@pytest.fixture
def micro_weights(mirror, catalog, tmp_path):
    """The smallest detector under a name; the test gets its variables."""
    config = micro.get_config()
    classes = ("square", "circle", "triangle")
    state = init_state(build_detector(micro.get_config(seed=7), len(classes) + 1))
    weights = ImportedWeights(
        flatten_parameters(state.params), flatten_parameters(state.batch_stats), classes
    )
    files.write_npz(tmp_path / "served.npz", weights)
    data = (tmp_path / "served.npz").read_bytes()
    catalog.names[MICRO_NAME] = named.NamedWeights(
        "https://example.org/micro.npz", "detector", "npz", micro.__file__,
        (config.model.mean, config.model.std), "shapes", "none", sha256(data)[:8],
    )  # fmt: skip
    mirror.files["/example.org/micro.npz"] = data
    return weights


@pytest.mark.parametrize("name", named.NAMES)
def test_every_entry_fits_its_config(name):
    weights = named.NAMES[name]
    config = packaged.load_config(weights.config)
    assert (config.model.mean, config.model.std) == weights.pixels
    assert weights.format in WEIGHT_FORMATS and weights.what in ("detector", "backbone")
    assert weights.address.startswith("https://") and weights.license and weights.trained_on
    assert weights.sha256 in weights.address  # nothing but what its name says
    assert bool(weights.member) == (len(weights.member_sha256) == 64)
    assert named.is_name(name) and named.find(name) is weights


def test_no_path_is_taken_for_a_name():
    for text in ("runs/mine", "", "C:/x", "weights.pth", "voc:a:b", "torchvision"):
        assert not named.is_name(text)
    with pytest.raises(ConfigError, match="no weights torchvision:ssd300_vgg15: there are .*vgg16"):
        named.find("torchvision:ssd300_vgg15")


def test_a_pytorch_detector_brings_its_config(mirror, catalog):
    name = "torchvision:ssdlite320_mobilenet_v3_large"
    tensors = golden.weights(SHAPES["ssdlite320_mobilenet_v3_large"])
    mirror.files[path_of(name)] = data = pth_files.encode(tensors)
    with pytest.raises(CheckpointError, match="and the published one a79551df"):
        load_detector(name)
    catalog(name, sha256=sha256(data)[:8])
    run = load_detector(name)
    config = run.detector.config
    assert config.image_size == (320, 320) and run.classes[0] == "person" and len(run.classes) == 90
    wanted = torchvision.read(tensors, config)
    for key, value in flatten_parameters(run.variables["params"]).items():
        np.testing.assert_array_equal(value, wanted.params[key])
    np.testing.assert_allclose(run.detector.priors.boxes, wanted.priors, atol=1e-6)
    assert len(mirror.requests) == 2  # the refused one, and this one


def test_a_file_of_the_hub_starts_a_backbone(mirror):
    """resnet50 in safetensors, whose sum and revision the hub tells."""
    name = "hf:timm/resnet50.tv2_in1k"
    tensors = golden.weights(SHAPES["resnet50"])
    header, at = {}, 0
    for key, value in tensors.items():
        kind = {"f": "F32", "i": "I64"}[value.dtype.kind]
        header[key] = {
            "dtype": kind, "shape": value.shape, "data_offsets": [at, at + value.nbytes],
        }  # fmt: skip
        at += value.nbytes
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in tensors.values())
    mirror.files[path_of(name)] = data
    mirror.headers[path_of(name)] = {"X-Linked-Etag": sha256(data), "X-Repo-Commit": "1234abcd"}
    config = ssd300_resnet50_coco.get_config()
    weights, origin = initialize.load_source(name, "", config)
    wanted = torchvision.read(tensors, config)
    assert weights.params.keys() == wanted.params.keys()
    for key, value in weights.params.items():
        np.testing.assert_array_equal(value, wanted.params[key])
    assert origin == {
        "name": name, "address": named.NAMES[name].address, "sha256": sha256(data),
        "revision": "1234abcd",
    }  # fmt: skip
    for source in (name, "torchvision:resnet34"):
        with pytest.raises(ConfigError, match="is a backbone without heads, which detects nothing"):
            import_detector(source, "", None)
    config.init.source, config.init.what = name, "detector"
    with pytest.raises(ConfigError, match=r"set config\.init\.what=backbone"):
        initialize.check_source(config)
    config.model.mean = (0.0, 0.0, 0.0)
    with pytest.raises(CheckpointError, match=r"expect config\.model\.mean=\(123\.675"):
        initialize.load_source(name, "", config)
    with pytest.raises(ConfigError, match="has the format torchvision: leave out caffe"):
        initialize.load_source(name, "caffe", config)


def test_the_hub_has_a_mirror_of_its_own(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    for name, weights in named.NAMES.items():
        changed = named._mirrored(weights.address) != weights.address
        assert changed == name.startswith("hf:")
    address = named._mirrored(named.NAMES["hf:timm/resnet50.tv2_in1k"].address)
    path = "timm/resnet50.tv2_in1k/resolve/main/model.safetensors"
    assert address == f"https://mirror.example/{path}"
    assert len({named.cached_path(name) for name in named.NAMES}) == len(named.NAMES)


def test_the_classes_of_a_named_detector_are_known_to_training(mirror, real_data):
    """Those of PASCAL VOC, six of them under another name: the run starts as a detector."""
    name = "tflite:coco_ssd_mobilenet_v1"
    detect = (real_data / "ssd_mobilenet_v1_coco" / "detect.tflite").read_bytes()
    mirror.files[path_of(name)] = archive(detect__tflite=detect)
    config = packaged.load_config("finetune")
    assert config.init.source == name
    classes = packaged.load_config("ssd300_vgg16_voc").data.classes
    state, is_detector, origin = initialize.initial_state(build_detector(config, 21), classes)
    assert is_detector and origin["name"] == name and origin["member"] == "detect.tflite"
    few = ("person", "tv monitor", "sofa", "raccoon")
    assert not initialize.initial_state(build_detector(config, 5), few).is_detector
    # Columns are those of the classes of the same name: person is COCO's first, tv its 72nd.
    wanted = import_detector(name, "", None).state.params["heads"]["classification_0"]["bias"]
    bias = np.asarray(state.params["heads"]["classification_0"]["bias"]).reshape(-1, 21)
    wanted = np.asarray(wanted).reshape(-1, 91)
    for column, coco in ((classes.index("person"), "person"), (classes.index("tvmonitor"), "tv")):
        np.testing.assert_array_equal(bias[:, column + 1], wanted[:, COCO_CLASSES.index(coco) + 1])


def archive(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in members.items():
            target.writestr(name.replace("__", "."), data)
    return file.getvalue()


def test_the_real_detector_in_three_lines(mirror, real_data):
    name, folder = "tflite:coco_ssd_mobilenet_v1", real_data / "ssd_mobilenet_v1_coco"
    detect = (folder / "detect.tflite").read_bytes()
    mirror.files[path_of(name)] = archive(detect__tflite=detect, labelmap__txt=b"???")
    model = ssd_jax.load(name)
    images = np.load(folder / "golden_voc16.npz")["images_uint8"]
    found = model(images[0])
    exact = build_detector(model.detector.config, len(model.classes) + 1).priors.boxes
    np.testing.assert_array_equal(model.detector.priors.boxes, exact)  # the file's are rounded
    assert len(found) and set(found.names) <= set(model.classes)
    assert len(mirror.requests) == 1


def test_an_archive_without_its_weights_is_refused(mirror, monkeypatch):
    name = "tflite:coco_ssd_mobilenet_v1"
    for data, message in (
        (b"<html>", "is no archive with detect.tflite"),
        (archive(other__tflite=b"1"), "is no archive with detect.tflite"),
        (archive(detect__tflite=b"1"), "detect.tflite in .* has the SHA-256 6b86.* and not e4b1"),
    ):
        mirror.files[path_of(name)] = data
        with pytest.raises(CheckpointError, match=message):
            named.fetch(name)
        named.cached_path(name).unlink()


def test_a_named_detector_becomes_a_run(micro_weights, tmp_path):
    import_run(MICRO_NAME, "", None, tmp_path / "run")
    origin = read_run_info(tmp_path / "run").weights
    assert origin["name"] == MICRO_NAME and len(origin["sha256"]) == 64
    model = ssd_jax.load(tmp_path / "run")
    assert model.classes == micro_weights.classes
    with pytest.raises(ConfigError, match="holds a run"):
        import_run(MICRO_NAME, "", None, tmp_path / "run")
    with pytest.raises(ConfigError, match="is a file: name its --format"):
        import_run("x.npz", "npz", None, tmp_path / "other")


def test_training_starts_from_a_name_and_tells_so(micro_weights, mirror, tmp_path):
    """Under jit; the resumed run, which does not read the file again, under pmap."""
    config = micro.get_config(init__source=MICRO_NAME, parallel="jit", steps=2, eval_every=0)
    assert ssd_jax.train(config, tmp_path / "run")
    info = read_run_info(tmp_path / "run")
    assert info.weights["name"] == MICRO_NAME and info.config.init.source == MICRO_NAME
    mirror.files.clear()
    named.cached_path(MICRO_NAME).unlink()
    config.steps, config.parallel = 4, "pmap"
    ssd_jax.train(config, str(tmp_path / "run"))
    assert read_run_info(tmp_path / "run").weights == info.weights
    manifests = list((tmp_path / "run" / "checkpoints").glob("latest/*/MANIFEST.json"))
    assert manifests
    for each in manifests:
        assert json.loads(each.read_text())["weights"] == info.weights
    # What is trained from that run tells of both.
    told = initialize.load_source(str(tmp_path / "run"), "", config).origin
    assert told == {"run": str(tmp_path / "run"), "step": told["step"], "weights": info.weights}


def test_a_name_that_cannot_be_had_leaves_no_run(micro_weights, mirror, tmp_path):
    mirror.files.clear()
    config = micro.get_config(init__source=MICRO_NAME)
    with pytest.raises(ResourceError, match=r"micro.npz \(the server answers 404\)"):
        ssd_jax.train(config, tmp_path / "run")
    config.init.source = "runs/nowhere"
    with pytest.raises(CheckpointError, match="no weights at runs/nowhere: there is no such file"):
        ssd_jax.train(config, tmp_path / "run")
    with pytest.raises(CheckpointError, match="no weights at runs/nowhere"):
        ssd_jax.train(config, tmp_path / "runs" / "deep" / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "served.npz"]
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes.txt").touch()
    with pytest.raises(CheckpointError):
        ssd_jax.train(config, tmp_path / "kept")
    assert (tmp_path / "kept" / "notes.txt").exists()


def test_a_config_by_name_or_file():
    assert packaged.load_config("quickstart").to_dict() == packaged.load_config(
        str(Path("configs/quickstart.py").resolve())
    ).to_dict()  # fmt: skip
    preset = packaged.load_config("ssd300_vgg16_coco:torchvision")
    assert preset.priors.clip == "size"
    with pytest.raises(ConfigError, match="no config quickstat: .*by name quickstart"):
        packaged.load_config("quickstat")


def test_prediction_by_name(micro_weights, tmp_path):
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "a.png")
    output = tmp_path / "found"
    results = predict.predict_files(MICRO_NAME, [str(tmp_path / "a.png")], output, 0.0)
    assert results and {each["category_name"] for each in results} <= set(micro_weights.classes)
    assert (output / "a.png").exists() and (output / "detections.json").exists()
    together = predict.predict_files(
        MICRO_NAME, [str(tmp_path / "a.png")], output, 0.0, class_agnostic=True
    )
    boxes = np.float32([each["bbox"] for each in together])
    overlaps = np.asarray(box_ops.iou(*[np.c_[boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]] * 2))
    assert (overlaps[~np.eye(len(boxes), dtype=bool)] <= 0.46).all() and together != results


@pytest.mark.parametrize("flags", [(), ("--workdir=run", f"--weights={MICRO_NAME}")])
def test_prediction_wants_a_run_or_a_name(flags):
    result = call("predict", "--input=x.jpg", *flags)
    assert result.returncode == 2 and "give --workdir=RUN, or --weights=NAME" in result.stderr
