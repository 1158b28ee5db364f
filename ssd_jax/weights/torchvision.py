"""State dicts of torchvision: its two SSD detectors, and networks that were trained to classify.

| file | `model.name` and other fields |
|---|---|
| ssd300_vgg16 | vgg; its results want `postprocess.clip` first, as the preset `torchvision` sets |
| ssdlite320_mobilenet_v3_large | mobilenet_v3, `head` lite |
| vgg16, or vgg16_reducedfc of amdegroot/ssd.pytorch | vgg |
| mobilenet_v3_large | mobilenet_v3, `reduce_tail` False |
| resnet34, resnet50 | resnet, `depth` 34 or 50 |

`model.mean` and `model.std` must be those that the weights were trained with, times 255. Source:
pytorch/vision 0.28, `torchvision/models`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssd_jax.errors import CheckpointError
from ssd_jax.models import mobilenet_v3, resnet, ssd
from ssd_jax.multibox.priors import make_priors, prior_shapes
from ssd_jax.weights.imported import ImportedWeights

Tensors = Mapping[str, np.ndarray]
Layers = dict[str, str]  # module of the file -> ours, both without the tensor's own name

_VGG = {  # position in `features`
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12,
    "conv3_3": 14, "conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24, "conv5_2": 26,
    "conv5_3": 28,
}  # fmt: skip


def read(tensors: Tensors, config: ConfigDict) -> ImportedWeights:
    """Weights of a state dict (name -> array, as torchvision names them) for `config.model`.

    Of a detector the heads have the columns of the file, whatever the classes of the config, and
    the priors are torchvision's: its files have none, but its code always makes the same.

    Raises:
        CheckpointError: a file of another network, or tensors that do not fit this one.
    """
    model, levels = config.model, len(config.priors.aspect_ratios)
    if model.name not in _LAYOUTS:
        raise CheckpointError(
            f"torchvision's weights are read for model.name {', '.join(_LAYOUTS)}, and it is "
            f"{model.name!r}"
        )
    tensors, layers = _LAYOUTS[model.name](dict(tensors), model, levels)
    arrays, unused = {}, {}
    for name, tensor in tensors.items():
        module, _, field = name.rpartition(".")
        if field == "num_batches_tracked":
            unused[name] = "a counter that only training in PyTorch reads"
        elif name in layers:
            arrays[layers[name]] = (name, _array(tensor, field)[1])
        elif module not in layers:
            unused[name] = f"no such layer in {model.name} for SSD"
        else:
            own, array = _array(tensor, field)
            arrays[f"{layers[module]}/{own}"] = (name, array)
    found = {name: array for name, (_, array) in arrays.items()}
    params, batch_stats = _expected(config, levels, found)
    _check(arrays, params | batch_stats, layers, model.name)
    has_heads = any(name.startswith("heads/") for name in found)
    return ImportedWeights(
        priors=_detector_priors(model.name) if has_heads else None,
        params={name: array for name, array in found.items() if name in params},
        batch_stats={name: array for name, array in found.items() if name in batch_stats},
        unused=unused,
    )


class _Anchors(NamedTuple):
    """What torchvision's `DefaultBoxGenerator` is given."""

    side: int  # pixels of the image
    map_sides: tuple[int, ...]
    sizes: tuple[float, ...]  # pixels
    aspect_ratios: tuple[tuple[float, ...], ...]
    strides: tuple[float, ...]  # pixels; () for even grids


_ANCHORS = {
    "vgg": _Anchors(
        300, (38, 19, 10, 5, 3, 1), (21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0),
        ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,)),
        (8.0, 16.0, 32.0, 64.0, 100.0, 300.0),
    ),
    "mobilenet_v3": _Anchors(
        320, (20, 10, 5, 3, 2, 1), (64.0, 112.0, 160.0, 208.0, 256.0, 304.0, 320.0),
        ((2.0, 3.0),) * 6, (),
    ),
}  # fmt: skip


def _detector_priors(model: str) -> np.ndarray:
    """Priors of torchvision's detector on this backbone, normalized corners [A, 4]."""
    anchors = _ANCHORS[model]
    config = ConfigDict(
        {
            "sizes": anchors.sizes, "aspect_ratios": anchors.aspect_ratios,
            "strides": anchors.strides, "extra_square": "second", "first_level": (),
            "floor_sizes": False, "clip": "size",
        }
    )  # fmt: skip
    maps = [(side, side) for side in anchors.map_sides]
    return make_priors(config, (anchors.side, anchors.side), maps).boxes


def _array(tensor: np.ndarray, field: str) -> tuple[str, np.ndarray]:
    """Our name and layout of a tensor; convolutions are [out, in, h, w] in PyTorch."""
    tensor = np.asarray(tensor, np.float32)
    if field == "weight" and tensor.ndim == 4:
        # A depthwise kernel has one channel in, [N, 1, h, w], and is [h, w, 1, N] here.
        return "kernel", np.ascontiguousarray(tensor.transpose(2, 3, 1, 0))
    names = {"weight": "scale", "running_mean": "mean", "running_var": "var"}
    return names.get(field, field), tensor


def _expected(config: ConfigDict, levels: int, found: Tensors) -> tuple[dict, dict]:
    """Shapes of the network's parameters and statistics, with as many classes as the file has."""
    sizes = prior_shapes(config.priors, config.image_size, levels)
    per_cell = tuple(len(cell) for cell in sizes)
    columns = found.get("heads/classification_0/bias", np.zeros(2 * per_cell[0])).size
    network = ssd.build_network(config.model, columns // per_cell[0], per_cell)
    images = jax.ShapeDtypeStruct((1, *config.image_size, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda images: network.init(jax.random.key(0), images, train=False), images
    )
    flat = [
        {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}
        for leaves in (
            jax.tree_util.tree_leaves_with_path(variables.get(part, {}))
            for part in ("params", "batch_stats")
        )
    ]
    return flat[0], flat[1]


def _check(
    arrays: dict[str, tuple[str, np.ndarray]], shapes: dict[str, tuple], layers: Layers, model: str
) -> None:
    """Raise CheckpointError for tensors without a place, of other shapes, or absent."""
    problems = []
    for name, (source, array) in arrays.items():
        if name not in shapes:
            problems.append(f"{source} has no place ({name})")
        elif array.shape != shapes[name]:
            problems.append(f"{source} is {array.shape} and {name} {shapes[name]}")
    modules = {ours: source for source, ours in layers.items()}
    for name in shapes:
        source = modules.get(name, modules.get(name.rpartition("/")[0]))
        if source and name not in arrays:
            problems.append(f"{source} is not there ({name})")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"the file does not fit model.name {model!r}, its backbone or heads: "
            f"{'; '.join(problems[:3])}{more}"
        )


def _vgg(tensors: dict, model: ConfigDict, levels: int) -> tuple[dict, Layers]:
    if "backbone.scale_weight" in tensors:
        # The detector's `extra.0` begins with pool4, place 23 of `features`.
        layers = {
            f"backbone.features.{at}" if at < 23 else f"backbone.extra.0.{at - 23}": name
            for name, at in _VGG.items()
        }
        layers |= {"backbone.extra.0.7.1": "fc6", "backbone.extra.0.7.3": "fc7"}
        for i in range(1, 5):
            layers[f"backbone.extra.{i}.0"] = f"conv{i + 5}_1"
            layers[f"backbone.extra.{i}.2"] = f"conv{i + 5}_2"
        layers["backbone.scale_weight"] = "conv4_3_norm/scale"
        return tensors, _in_backbone(layers) | _heads(model, levels)
    if "31.weight" in tensors:
        layers = {str(at): name for name, at in _VGG.items()} | {"31": "fc6", "33": "fc7"}
        return tensors, _in_backbone(layers)
    layers = {f"features.{at}": name for name, at in _VGG.items()}
    # torchvision's weights for features alone have no numbers in the classifier.
    if np.isfinite(tensors.get("classifier.0.weight", np.nan)).all():
        tensors = _decimated(tensors)
        layers |= {"classifier.0": "fc6", "classifier.3": "fc7"}
    return tensors, _in_backbone(layers)


def _decimated(tensors: dict) -> dict:
    """fc6 and fc7 as convolutions, 3x3 and 1x1, that keep every fourth channel and third tap.

    So the authors of SSD made "fc_reduced" from VGG16 (paper section 3, "Base network").
    """
    fc6, fc7 = tensors["classifier.0.weight"], tensors["classifier.3.weight"]
    if fc6.shape != (4096, 25088) or fc7.shape != (4096, 4096):
        return tensors  # and let the check of shapes name them
    return tensors | {
        "classifier.0.weight": fc6.reshape(4096, 512, 7, 7)[::4, :, ::3, ::3],
        "classifier.0.bias": tensors["classifier.0.bias"][::4],
        "classifier.3.weight": fc7[::4, ::4, None, None],
        "classifier.3.bias": tensors["classifier.3.bias"][::4],
    }


def _mobilenet_v3(tensors: dict, model: ConfigDict, levels: int) -> tuple[dict, Layers]:
    last, tap = len(mobilenet_v3.BLOCKS) + 1, mobilenet_v3.TAP
    if "features.0.0.weight" in tensors:
        layers = _unit("features.0", "stem") | _unit(f"features.{last}", "last")
        return tensors, _in_backbone(layers | _v3_blocks(lambda i, j: f"features.{i}.block.{j}"))

    def part(i, j):  # the detector is cut behind the expansion of the block that is tapped
        if i == tap:
            return f"backbone.features.1.0.{j}" if j else f"backbone.features.0.{tap}"
        half, at = (1, i - tap) if i > tap else (0, i)
        return f"backbone.features.{half}.{at}.block.{j}"

    layers = _unit("backbone.features.0.0", "stem")
    layers |= _v3_blocks(part) | _unit(f"backbone.features.1.{last - tap}", "last")
    for i in range(len(mobilenet_v3.EXTRAS)):
        for j, name in enumerate(("squeeze", "depthwise", "expand")):
            layers |= _unit(f"backbone.extra.{i}.{j}", f"extra{i + 1}_{name}")
    return tensors, _in_backbone(layers) | _heads(model, levels)


def _v3_blocks(part: Callable[[int, int], str]) -> Layers:
    """Modules of MobileNetV3's blocks; part(i, j) is the name of part j of block i in the file."""
    layers, inputs = {}, 16
    for i, (_, expanded, channels, _, has_excitation) in enumerate(mobilenet_v3.BLOCKS, start=1):
        names = ["expand"] * (expanded != inputs) + ["depthwise"]
        names += ["excitation"] * has_excitation + ["project"]
        for j, name in enumerate(names):
            if name == "excitation":
                layers[f"{part(i, j)}.fc1"] = f"block{i}_squeeze"
                layers[f"{part(i, j)}.fc2"] = f"block{i}_excite"
            else:
                layers |= _unit(part(i, j), f"block{i}_{name}")
        inputs = channels
    return layers


def _resnet(tensors: dict, model: ConfigDict, levels: int) -> tuple[dict, Layers]:
    del levels
    layers = {"conv1": "conv1", "bn1": "conv1_norm"}
    counts, convolutions = resnet.DEPTHS[model.backbone.depth]
    for stage, count in enumerate(counts, start=1):
        for i in range(count):
            block, ours = f"layer{stage}.{i}", f"layer{stage}_{i}"
            for k in range(1, len(convolutions) + 1):
                layers[f"{block}.conv{k}"] = f"{ours}_conv{k}"
                layers[f"{block}.bn{k}"] = f"{ours}_conv{k}_norm"
            if i == 0 and (stage > 1 or model.backbone.depth == 50):
                layers |= _unit(f"{block}.downsample", f"{ours}_downsample")
    return tensors, _in_backbone(layers)


def _heads(model: ConfigDict, levels: int) -> Layers:
    layers = {}
    for theirs, ours in (("classification", "classification"), ("regression", "localization")):
        for i in range(levels):
            module, name = f"head.{theirs}_head.module_list.{i}", f"heads/{ours}_{i}"
            if model.head == "lite":
                layers |= _unit(f"{module}.0", f"{name}_depthwise") | {f"{module}.1": name}
            else:
                layers[module] = name
    return layers


def _unit(module: str, name: str) -> Layers:
    """A convolution and its norm, in torchvision's Conv2dNormActivation and downsampling."""
    return {f"{module}.0": name, f"{module}.1": f"{name}_norm"}


def _in_backbone(layers: Layers) -> Layers:
    return {module: f"backbone/{name}" for module, name in layers.items()}


_LAYOUTS = {"vgg": _vgg, "mobilenet_v3": _mobilenet_v3, "resnet": _resnet}
