"""torchvision's weights give torchvision's numbers: against recorded outputs, and live.

The records are made by `golden/make_torchvision.py` from weights that are drawn here again.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import make_torchvision as golden

from configs import ssd300_resnet34_coco, ssd300_vgg16_coco, ssdlite320_mobilenet_v3_coco
from ssd_jax.data import color
from ssd_jax.detector import build_detector
from ssd_jax.errors import CheckpointError
from ssd_jax.multibox import losses, matching, postprocess
from ssd_jax.parameter_names import flatten_parameters
from ssd_jax.runs.load import load_run
from ssd_jax.weights import import_run, torchvision
from ssd_jax.weights.remap import fit_to_model

RECORD = np.load(golden.FILE)
SHAPES = json.loads(str(RECORD["shapes"]))
DETECTORS = tuple(golden.SIDES)


@functools.cache
def drawn(name):
    return golden.weights(SHAPES[name])


def config(name, **changes):
    """The experiment that torchvision's network `name` belongs to."""
    module = {"ssd300_vgg16": ssd300_vgg16_coco, "vgg16": ssd300_vgg16_coco,
              "resnet34": ssd300_resnet34_coco, "resnet50": ssd300_resnet34_coco}  # fmt: skip
    config = module.get(name, ssdlite320_mobilenet_v3_coco).get_config().unlock()
    if name == "ssd300_vgg16":
        config.priors.clip, config.postprocess.clip = "size", "first"
        config.matching.matcher = "best_prior"
        config.model.mean = (122.99925, 116.9991, 103.9992)
    if name == "resnet50":
        config.model.backbone.depth = 50
    if name == "mobilenet_v3_large":
        config.model.backbone.reduce_tail = False
    for field, value in changes.items():
        config.update_from_flattened_dict({field.replace("__", "."): value})
    return config.lock()


def tree(flat):
    """Nested dict of a flat one with "/" in its names."""
    nested = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        functools.reduce(lambda part, key: part.setdefault(key, {}), path, nested)[last] = value
    return nested


def variables(imported):
    return {"params": tree(imported.params), "batch_stats": tree(imported.batch_stats)}


@functools.cache
def read(name):
    return torchvision.read(drawn(name), config(name))


@functools.cache
def ours(name):
    """Detector, logits [A, C] and offsets [A, 4] with the drawn weights at the drawn image."""
    settings = config(name)
    detector = build_detector(settings, golden.COLUMNS)

    @jax.jit
    def outputs(variables, images):
        images = images.astype(jnp.float32)
        images = color.normalize(images, settings.model.mean, settings.model.std, jnp.float32)
        return detector.model.apply(variables, images, train=False)

    logits, offsets = outputs(variables(read(name)), golden.image(golden.SIDES[name])[None])
    return detector, logits[0], offsets[0]


@functools.cache
def live(name):
    """All that torchvision computes now; without it the test is skipped."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:  # wheels for CUDA fail on a PyTorch without it
        pytest.skip(f"no torchvision to compare with ({error})")
    return golden.detector(name)[0]


@functools.cache
def detect(name):
    detector = ours(name)[0]
    return jax.jit(
        functools.partial(
            postprocess.detect,
            priors=jnp.asarray(detector.priors.boxes),
            variances=detector.config.matching.variances,
            **detector.config.postprocess,
        )
    )


def close(got, want, tolerance):
    """No difference above `tolerance` of the spread of what is wanted."""
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * want.std()


@pytest.mark.parametrize("name", DETECTORS)
def test_logits_offsets_and_priors_are_those_recorded(name):
    detector, logits, offsets = ours(name)
    close(golden.sample(np.asarray(logits)), RECORD[f"{name}/logits"], 1e-4)
    close(golden.sample(np.asarray(offsets)), RECORD[f"{name}/offsets"], 1e-4)
    close(golden.sample(detector.priors.boxes), RECORD[f"{name}/priors"], 1e-5)
    close(golden.sample(read(name).priors), RECORD[f"{name}/priors"], 1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_logit_and_offset_is_that_of_torchvision(name):
    want = live(name)
    detector, logits, offsets = ours(name)
    close(np.asarray(logits), want["logits"], 1e-4)
    close(np.asarray(offsets), want["offsets"], 1e-4)
    np.testing.assert_allclose(detector.priors.boxes, want["priors"], atol=1e-6)
    for key in ("losses", "few_scores", "many_boxes", "whole_scores"):  # the record is of today
        np.testing.assert_allclose(RECORD[f"{name}/{key}"], want[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_targets_and_losses_are_those_recorded(name):
    detector, logits, offsets = ours(name)
    boxes, labels = golden.truths(golden.SIDES[name])
    options = detector.config.matching
    targets = jax.jit(
        functools.partial(matching.match, threshold=options.threshold, matcher=options.matcher)
    )(boxes, labels.astype(np.int32), jnp.asarray(detector.priors.boxes))
    matches = RECORD[f"{name}/matches"]
    np.testing.assert_array_equal(targets.labels, np.where(matches >= 0, labels[matches], 0))
    loss = jax.jit(losses.multibox_loss)(logits, offsets, targets.labels, targets.offsets)
    got = np.stack([loss.classification, loss.localization]) / float(loss.positives)
    np.testing.assert_allclose(got, RECORD[f"{name}/losses"], rtol=1e-5)


@pytest.mark.parametrize("kind", ["few", "many"])
@pytest.mark.parametrize("name", DETECTORS)
def test_the_same_outputs_give_the_same_detections(name, kind):
    want = {key: RECORD[f"{name}/{kind}_{key}"] for key in ("boxes", "scores", "labels")}
    count, priors = len(want["scores"]), len(ours(name)[0].priors.boxes)
    found = detect(name)(*golden.outputs(priors, kind))
    assert (count < len(found.scores)) == (kind == "few")
    np.testing.assert_array_equal(found.labels[:count], want["labels"])
    np.testing.assert_allclose(found.scores[:count], want["scores"], rtol=1e-5)
    np.testing.assert_allclose(found.boxes[:count], want["boxes"], atol=1e-6)
    assert not np.asarray(found.labels[count:]).any()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_picture_gives_the_detections_recorded(name):
    """99 of 100 of those whose score stands clear of its neighbors, which rounding may swap."""
    found = jax.tree.map(np.asarray, detect(name)(*ours(name)[1:]))
    boxes, scores, labels = (
        RECORD[f"{name}/whole_{key}"] for key in ("boxes", "scores", "labels")
    )  # fmt: skip
    gap = np.abs(np.diff(scores))
    clear = (np.r_[1, gap] > 1e-3) & (np.r_[gap, 1] > 1e-3)
    assert clear.sum() > 20
    same = (labels[:, None] == found.labels) & (np.abs(scores[:, None] - found.scores) < 1e-4)
    same &= np.abs(boxes[:, None] - found.boxes).max(-1) < 1e-4
    assert same.any(1)[clear].mean() >= 0.99


@pytest.mark.parametrize("name", golden.CLASSIFIERS)
def test_maps_of_classification_weights_are_those_recorded(name):
    settings = config(name)
    backbone = build_detector(settings, 2).model.backbone
    imported = read(name)
    assert all(key.startswith("backbone/") for key in (*imported.params, *imported.batch_stats))
    assert not any("extra" in key for key in imported.params)
    side = 320 if name.startswith("mobilenet") else 300
    images = golden.image(side)[None].astype(np.float32) / 127.5 - 1
    shapes = jax.eval_shape(
        functools.partial(backbone.init, train=False), jax.random.key(0), images
    )  # fmt: skip
    rest = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    given = variables(imported)
    merged = {
        part: rest[part] | given[part]["backbone"] for part in ("params", "batch_stats")
    }  # fmt: skip
    count = 1 if name.startswith("resnet") else 2
    maps = jax.jit(lambda v, x: backbone.apply(v, x, train=False)[:count])(merged, images)
    for i, got in enumerate(maps):
        close(golden.sample(np.asarray(got[0])), RECORD[f"{name}/{i}"], 1e-4)


def full_vgg():
    """A state dict of VGG16 in which the features are drawn and fc6 counts its inputs."""
    tensors = {
        name.removeprefix("backbone."): array
        for name, array in drawn("ssd300_vgg16").items()
        if name.startswith("backbone.features")
    }
    for at in (24, 26, 28):
        tensors[f"features.{at}.weight"] = np.zeros((512, 512, 3, 3), np.float32)
        tensors[f"features.{at}.bias"] = np.zeros(512, np.float32)
    fc6 = np.broadcast_to(np.arange(25088, dtype=np.float32), (4096, 25088))
    fc7 = np.broadcast_to(np.arange(4096, dtype=np.float32)[:, None], (4096, 4096))
    tensors |= {"classifier.0.weight": fc6, "classifier.3.weight": fc7}
    tensors |= {f"classifier.{at}.bias": np.arange(4096, dtype=np.float32) for at in (0, 3)}
    return tensors | {"classifier.6.weight": np.zeros((1000, 4096), np.float32)}


def test_vgg_loses_three_of_four_channels_of_its_dense_layers():
    imported = torchvision.read(full_vgg(), config("vgg16"))
    params = imported.params
    assert "classifier.6.weight" in imported.unused and not imported.batch_stats
    # The input at row r, column s of channel c is number 49 c + 7 r + s of fc6.
    kernel = params["backbone/fc6/kernel"]
    assert kernel.shape == (3, 3, 512, 1024)
    assert kernel[1, 2, 5, 0] == 49 * 5 + 7 * 3 + 6 and kernel[0, 0, 511, 9] == 49 * 511
    assert params["backbone/fc7/kernel"].shape == (1, 1, 1024, 1024)
    assert params["backbone/fc7/kernel"][0, 0, 0, 3] == params["backbone/fc7/bias"][3] == 12
    features = drawn("ssd300_vgg16")["backbone.features.7.weight"]
    np.testing.assert_array_equal(
        params["backbone/conv2_2/kernel"], features.transpose(2, 3, 1, 0)
    )  # fmt: skip


def test_features_alone_leave_the_dense_layers_as_they_are():
    """torchvision's weights IMAGENET1K_FEATURES have no numbers in the classifier."""
    tensors = full_vgg()
    tensors["classifier.0.weight"] = np.broadcast_to(np.float32(np.nan), (4096, 25088))
    imported = torchvision.read(tensors, config("vgg16"))
    assert "classifier.0.weight" in imported.unused and "classifier.3.bias" in imported.unused
    assert "backbone/conv5_3/kernel" in imported.params
    assert not any("fc" in name for name in imported.params)


def test_reduced_vgg_has_its_layers_by_number():
    theirs = drawn("ssd300_vgg16")
    tensors = {}
    for at in torchvision._VGG.values():
        source = f"features.{at}" if at < 23 else f"extra.0.{at - 23}"
        for field in ("weight", "bias"):
            tensors[f"{at}.{field}"] = theirs[f"backbone.{source}.{field}"]
    for at, part in ((31, "7.1"), (33, "7.3")):
        for field in ("weight", "bias"):
            tensors[f"{at}.{field}"] = theirs[f"backbone.extra.0.{part}.{field}"]
    reduced = torchvision.read(tensors, config("vgg16")).params
    whole = read("ssd300_vgg16").params
    assert len(reduced) == 30
    for name, array in reduced.items():
        np.testing.assert_array_equal(array, whole[name])


@pytest.mark.parametrize("name", DETECTORS)
def test_everything_of_a_detector_is_used_and_nothing_is_missing(name):
    detector, imported = ours(name)[0], read(name)
    images = jnp.zeros((1, 320, 320, 3))
    init = functools.partial(detector.model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), images)
    for part, arrays in (("params", imported.params), ("batch_stats", imported.batch_stats)):
        leaves = jax.tree_util.tree_leaves_with_path(variables.get(part, {}))
        want = {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}
        assert {key: array.shape for key, array in arrays.items()} == want
        assert all(array.dtype == np.float32 for array in arrays.values())
    assert all(key.endswith("num_batches_tracked") for key in imported.unused)


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("tensors", "settings", "message"),
    [
        (
            lambda: without(drawn("resnet34"), "layer2.0.downsample.1.weight"),
            config("resnet34"),
            "'resnet'.*layer2.0.downsample.1 is not there .backbone/layer2_0_downsample_norm/scale",
        ),
        (lambda: drawn("resnet34"), config("resnet50"), "layer1.0.conv1.weight is .3, 3, 64, 64"),
        (
            lambda: drawn("mobilenet_v3_large"),
            config("mobilenet_v3_large", model__backbone__reduce_tail=True),
            "features.13.block.3.0.weight is .* and .*block13_project/kernel.* more",
        ),
        (
            lambda: drawn("ssdlite320_mobilenet_v3_large"),
            config("ssdlite320_mobilenet_v3_large", model__head="conv"),
            "no place|is not there",
        ),
        (lambda: drawn("resnet34"), config("ssd300_vgg16"), "features.0 is not there"),
        (
            lambda: drawn("resnet34"),
            config("resnet34", model__name="small", model__backbone={}),
            "read for model.name vgg, mobilenet_v3, resnet",
        ),
    ],
)
def test_what_does_not_fit_is_named(tensors, settings, message):
    with pytest.raises(CheckpointError, match=message):
        torchvision.read(tensors(), settings)


def test_a_run_of_a_file_detects_what_the_network_does(tmp_path):
    """The way of the command: a file, a run folder, and what is opened from it."""
    name, classes = "ssdlite320_mobilenet_v3_large", tuple(f"c{i}" for i in range(90))
    np.savez(tmp_path / "weights.npz", **drawn(name))
    settings = config(name, data__classes=classes)
    import_run.import_run(str(tmp_path / "weights.npz"), "torchvision", settings, tmp_path / "run")
    _, variables, found, at, _ = load_run(tmp_path / "run")
    assert (found, at) == (classes, 0)
    flat = flatten_parameters(variables["params"])
    for key, value in read(name).params.items():
        np.testing.assert_array_equal(flat[key], value)


@pytest.mark.parametrize(
    "changes",
    [
        {"priors__sizes": (30.0, 60.0, 111.0, 162.0, 213.0, 264.0, 315.0)},  # PASCAL VOC's
        {"priors__clip": "none"}, {"priors__strides": ()}, {"priors__extra_square": "last"},
    ],
)  # fmt: skip
def test_a_detector_under_the_priors_of_another_data_set_is_refused(changes):
    settings = config("ssd300_vgg16", **changes)
    priors = build_detector(settings, golden.COLUMNS).priors.boxes
    with pytest.raises(CheckpointError, match="its priors are not those .*Boxes would be wrong"):
        import_run._check_priors("x.pth", read("ssd300_vgg16").priors, priors)


@pytest.mark.parametrize("dense", [True, False])
def test_training_starts_from_convolutions_with_or_without_the_dense_layers(dense):
    tensors = full_vgg()
    if not dense:
        tensors["classifier.0.weight"] = np.broadcast_to(np.float32(np.nan), (4096, 25088))
    weights = torchvision.read(tensors, config("vgg16"))
    like = {key: np.zeros_like(value) for key, value in read("ssd300_vgg16").params.items()}
    fitted = fit_to_model(weights, like, ("a",), "backbone")
    report = "\n".join(fitted.report)
    assert ("dense layers loaded" in report) is dense and "extra layers new" in report
    assert fitted.tensors["backbone/conv1_1/kernel"].any()
    assert fitted.tensors["backbone/fc6/kernel"].any() == dense
