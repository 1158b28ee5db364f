"""The program that a config runs on a slice: step, evaluation or prediction, for given devices."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.stages import Lowered
from ml_collections import ConfigDict

from ssd_jax.data.formats import shapes
from ssd_jax.detector import abstract_variables, build_detector, predict, predict_with_losses
from ssd_jax.errors import ConfigError
from ssd_jax.runtime.devices import get_runner
from ssd_jax.train_step import abstract_state, train_step

_VOC_CLASSES, _COCO_CLASSES = 20, 80


class Request(NamedTuple):
    """What to compile, for any slice."""

    config: ConfigDict  # its batch size is not used
    what: str  # train, evaluate or predict
    per_device: int  # images
    num_classes: int  # with the background
    boxes: int  # ground truth of an image, padded: M


def lower_program(request: Request, devices: list[jax.Device]) -> Lowered:
    """The program for all devices together, not compiled yet; no array is made."""
    config, rows = request.config.copy_and_resolve_references(), request.per_device * len(devices)
    config.batch_size = rows
    runner = get_runner(config.parallel, devices)
    detector = build_detector(config, request.num_classes, runner.axis_name)
    images = jax.ShapeDtypeStruct((rows, *config.image_size, 3), jnp.uint8)
    if request.what == "predict":
        variables = runner.replicated_shapes(abstract_variables(detector))
        shards = runner.sharded_shapes({"image": images})
        function = runner.compile_predict(partial(predict, detector))
        return _lower(function, variables, shards["image"])
    batch = {
        "image": images,
        "boxes": jax.ShapeDtypeStruct((rows, request.boxes, 4), jnp.float32),
        "labels": jax.ShapeDtypeStruct((rows, request.boxes), jnp.int32),
        "sample": jax.ShapeDtypeStruct((rows,), jnp.int32),
        "image_id": jax.ShapeDtypeStruct((rows,), jnp.int32),
    }
    if request.what == "evaluate":
        variables = runner.replicated_shapes(abstract_variables(detector))
        function = runner.compile_predict(partial(predict_with_losses, detector))
        del batch["sample"]
        return _lower(function, variables, runner.sharded_shapes(batch))
    state = runner.replicated_shapes(abstract_state(detector))
    function = runner.compile(partial(train_step, detector))
    return _lower(function, state, runner.sharded_shapes(batch))


def _lower(function: Any, *shapes: Any) -> Lowered:
    return function.lower(*shapes)


def num_classes_of(config: ConfigDict) -> int:
    """Classes with the background, from the config alone: its list, or the name of its data.

    Raises ConfigError for own data, whose files would have to be read.
    """
    if config.data.classes:
        return len(config.data.classes) + 1
    name = config.data.train[0]
    if name.startswith("shapes:"):
        return len(shapes.CLASSES) + 1
    if name.startswith("coco:") and "instances_" in name or name.startswith("tfds:coco"):
        return _COCO_CLASSES + 1
    if "VOC20" in name or name.startswith("tfds:voc"):
        return _VOC_CLASSES + 1
    raise ConfigError(
        f"the number of classes of {name} is known only from its files: give it, with the "
        "background, as --num_classes=21"
    )
