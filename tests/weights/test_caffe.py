"""The Caffe reader, on files that this test encodes, and on the names of the released models."""

import struct

import fuzz
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ssd300_vgg16_coco, ssd300_vgg16_voc, ssd512_vgg16_voc
from ssd_jax.detector import build_detector
from ssd_jax.errors import CheckpointError
from ssd_jax.models.heads import Heads
from ssd_jax.train_step import abstract_state
from ssd_jax.weights import caffe, import_run
from ssd_jax.weights.remap import detector_part, fit_to_model

config = ssd300_vgg16_voc.get_config()
random = np.random.default_rng(0)


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(value, old):
    data = field(5, value.astype("<f4").tobytes())
    if old:
        shape = (*(1,) * (4 - value.ndim), *value.shape)
        return b"".join(field(i, side) for i, side in enumerate(shape, 1)) + data
    return data + field(7, field(1, b"".join(map(varint, value.shape))))


def encode(layers, old=False):
    """A net of {layer: blobs}, in the V1 messages of old files or in the new ones."""
    place, name_place, blob_place = (2, 4, 6) if old else (100, 1, 7)
    net = field(1, b"VGG") + field(3, b"data")
    for name, blobs in layers.items():
        layer = field(name_place, name.encode()) + field(5 if old else 2, 4 if old else b"Conv")
        layer += b"".join(field(blob_place, blob(value, old)) for value in blobs)
        net += field(place, layer)
    return net


def prior_layer(name, least, most):
    """A prior box layer of the branch ssd: floats that are not packed, and a flag."""
    sizes = [varint(number << 3 | 5) + struct.pack("<f", size)
             for number, size in ((1, least), (2, most), (3, 2.0))]  # fmt: skip
    layer = field(1, name.encode()) + field(203, b"".join(sizes) + field(4, 1))
    return field(100, layer)


def small(**shapes):
    """A detector's layers of tiny shapes."""
    layers = {"conv1_1": (2, 3, 3, 3), "fc7": (4, 2, 1, 1), "conv4_3_norm_mbox_loc": (8, 2, 3, 3),
              "conv4_3_norm_mbox_conf": (6, 2, 3, 3), "fc7_mbox_loc": (8, 4, 3, 3),
              "conv6_2_mbox_conf": (6, 4, 3, 3)} | shapes  # fmt: skip
    layers = {name: [random.normal(size=shape).astype(np.float32),
                     random.normal(size=shape[0]).astype(np.float32)]
              for name, shape in layers.items()}  # fmt: skip
    return layers | {"conv4_3_norm": [np.array([20.0, 19.0])], "relu": []}


def read(data, settings=config):
    return caffe.read(caffe.tensors(data), settings)


@pytest.mark.parametrize("old", [False, True])
def test_blobs_find_their_place_in_our_layout(old):
    layers = small()
    found = read(encode(layers, old)).params
    first = layers["conv1_1"][0]
    np.testing.assert_array_equal(  # [out, BGR, H, W] -> [H, W, RGB, out]
        found["backbone/conv1_1/kernel"], first[:, [2, 1, 0]].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(found["backbone/conv1_1/bias"], layers["conv1_1"][1])
    np.testing.assert_array_equal(
        found["backbone/fc7/kernel"], layers["fc7"][0].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(found["backbone/conv4_3_norm/scale"], [20.0, 19.0])
    assert {name.rpartition("/")[0] for name in found if name.startswith("heads")} == {
        "heads/localization_0", "heads/classification_0", "heads/localization_1",
        "heads/classification_2",
    }  # fmt: skip


def test_the_first_layer_sees_what_caffes_saw():
    kernel, bias = small()["conv1_1"]
    found = read(encode({"conv1_1": [kernel, bias]})).params
    rgb = random.integers(0, 256, (3, 3, 3)).astype(np.float32)  # [H, W, RGB], one position
    bgr = rgb[..., ::-1].transpose(2, 0, 1) - np.array([104, 117, 123])[:, None, None]
    theirs = np.einsum("ochw,chw->o", kernel, bgr) + bias
    ours = np.einsum("hwco,hwc->o", found["backbone/conv1_1/kernel"], rgb - config.model.mean)
    np.testing.assert_allclose(ours + found["backbone/conv1_1/bias"], theirs, rtol=1e-4, atol=1e-3)


def test_heads_flatten_as_caffes_do():
    """Caffe: convolve [N, H, W], permute to [H, W, priors * numbers], flatten."""
    layers = {"conv4_3_norm_mbox_loc": (8, 5, 1, 1), "conv4_3_norm_mbox_conf": (6, 5, 1, 1)}
    layers = {name: small(**{name: shape})[name] for name, shape in layers.items()}
    found = read(encode(layers)).params
    maps = random.normal(size=(5, 2, 3)).astype(np.float32)  # [N, H, W]
    params = {
        name: {part: found[f"heads/{name}/{part}"] for part in ("kernel", "bias")}
        for name in ("classification_0", "localization_0")
    }
    heads = Heads((2,), 3, kernel=1)
    outputs = heads.apply({"params": params}, (jnp.asarray(maps.transpose(1, 2, 0)[None]),))
    for (kernel, bias), ours, size in zip(reversed(layers.values()), outputs, (3, 4)):
        theirs = np.einsum("oc,chw->ohw", kernel[:, :, 0, 0], maps) + bias[:, None, None]
        theirs = theirs.transpose(1, 2, 0).reshape(-1, size)
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("old", [False, True])
def test_every_cut_and_a_thousand_corruptions_are_refused_or_read(old):
    data = encode(dict(list(small(fc7=(2, 1, 1, 1)).items())[1:2]) | {"conv4_3_norm": [np.ones(2)]})
    like = read(data).params

    def fits(data):
        return fit_to_model(read(data), like, ("cat",))

    assert fits(data).tensors.keys() == {
        "backbone/fc7/kernel", "backbone/fc7/bias", "backbone/conv4_3_norm/scale"
    }  # fmt: skip
    for cut in fuzz.cuts(data):
        with pytest.raises(CheckpointError):
            fits(cut)
    assert 300 < fuzz.survives(fits, data, 1000) < 1000


def names_of_caffe(name):
    """Our name -> (Caffe's layer, blob)."""
    part, layer, kind = name.split("/")
    if part == "heads":
        level = int(layer[-1])
        source = ("conv4_3_norm", "fc7")[level] if level < 2 else f"conv{level + 4}_2"
        layer = f"{source}_mbox_{'loc' if layer.startswith('loc') else 'conf'}"
    return f"{layer}/{0 if kind in ('kernel', 'scale') else 1}"


@pytest.mark.parametrize(("experiment", "count"), [(ssd300_vgg16_voc, 71), (ssd512_vgg16_voc, 79)])
def test_the_released_detectors_fill_the_whole_model(experiment, count):
    settings = experiment.get_config()
    like = params(settings)
    tensors = {}
    for name, shape in like.items():
        order = (3, 2, 0, 1) if len(shape) == 4 else (0,)
        value = np.broadcast_to(np.float32(1), [shape[i] for i in order])
        tensors[names_of_caffe(name)] = value
    assert {"conv4_3_norm/0", "fc6/0", "fc7_mbox_conf/1", "conv9_2_mbox_loc/0"} <= tensors.keys()
    found = caffe.read(tensors, settings)
    assert {name: value.shape for name, value in found.params.items()} == like
    assert len(like) == count and not found.unused


def params(settings):
    detector = build_detector(settings, 21)
    leaves = jax.tree.leaves_with_path(abstract_state(detector).params)
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}


def test_the_reduced_classifier_fills_the_backbone():
    like = {name: np.broadcast_to(np.float32(0), shape) for name, shape in params(config).items()}
    tensors = {
        names_of_caffe(name): value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        for name, value in like.items()
        if detector_part(name) in ("backbone", "dense layers")
    }
    tensors |= {"fc8/0": np.zeros((1000, 1024, 1, 1)), "fc8/1": np.zeros(1000)}
    weights = caffe.read(tensors, config)
    fitted = fit_to_model(weights, like, config.data.classes, "backbone")
    assert fitted.report == [
        "  backbone     loaded, 26 tensors", "  dense layers loaded, 4 tensors",
        "  extra layers new", "  heads        new",
        "  unused       fc8/0, fc8/1: ImageNet's classifier",
    ]  # fmt: skip
    with pytest.raises(CheckpointError, match="41 tensors do not fit .*conv10|conv4_3_norm"):
        fit_to_model(weights, like, config.data.classes)
    del weights.params["backbone/conv3_2/bias"]
    with pytest.raises(CheckpointError, match=r"backbone/conv3_2/bias is absent, expected \[256\]"):
        fit_to_model(weights, like, config.data.classes, "backbone")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"conv1/dw": [np.ones((4, 1, 3, 3))]}, r"conv1/dw/0 \[4, 1, 3, 3\] is of another"),
        ({"conv1_1": [np.ones((4, 27))]}, "blob 0 .* of no convolution"),
        ({"conv1_1": [np.ones((4, 3, 3, 3)), np.ones(4), np.ones(1)]}, "blob 2"),
        ({"relu": []}, "no layer with blobs"),
    ],
)
def test_other_layers_are_refused(layers, message):
    with pytest.raises(CheckpointError, match=message):
        read(encode(layers))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"\x80\x04K\x01." * 40, field(100, 3), field(100, field(7, b"\x80" * 20)),
        field(100, field(1, b"fc7") + field(7, field(5, b"1234") + field(7, field(1, 2**60)))),
        field(100, field(1, b"fc7") + field(7, field(5, 4) + field(1, 1))),
        field(100, field(1, b"fc7") + field(7, field(8, b"12345678"))),
        field(100, field(1, b"fc7") + field(7, blob(np.ones(1), True))) * 2,
        varint(1 << 3 | 3), struct.pack("<Q", 2**63) + b"\xff" * 8,
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(CheckpointError, match="not a complete Caffe file"):
        caffe.tensors(data)


def test_a_config_of_other_pixels_is_refused():
    other = ssd300_vgg16_voc.get_config()
    other.model.mean = (0.0, 0.0, 0.0)
    with pytest.raises(CheckpointError, match=r"config\.model\.mean=\(123"):
        caffe.read({}, other)


LEVELS = ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2")


def net_with_priors(sizes):
    layers = [prior_layer(f"{name}_mbox_priorbox", *pair)
              for name, *pair in zip(LEVELS, sizes, sizes[1:])]  # fmt: skip
    return encode(small()) + b"".join(layers[::-1])  # in any order


def test_the_sizes_of_its_priors_are_read_and_compared():
    sizes = (30.0, 60.0, 111.0, 162.0, 213.0, 264.0, 315.0)
    weights = read(net_with_priors(sizes))
    assert weights.prior_sizes == sizes
    assert read(encode(small())).prior_sizes == ()
    import_run._check_prior_sizes("x", weights.prior_sizes, config)
    for other in (ssd300_vgg16_coco.get_config(), ssd512_vgg16_voc.get_config()):
        with pytest.raises(CheckpointError, match=r"x: its priors have the sizes \(30.0, 60.0"):
            import_run._check_prior_sizes("x", weights.prior_sizes, other)
    nothing = field(100, field(1, b"fc7_mbox_priorbox") + field(203, field(4, 1)))
    with pytest.raises(CheckpointError, match="without one smallest and one largest size"):
        read(encode(small()) + nothing)


def test_damaged_priors_are_refused_or_read():
    data = net_with_priors((30.0, 60.0))
    assert 200 < fuzz.survives(read, data, 500) <= 500
