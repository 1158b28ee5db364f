"""What is compiled is the real program, and the number of classes that a config names."""

import importlib
from functools import partial

import jax
import micro
import numpy as np
import pytest

from scripts.benchmarks.subject import synthetic_batch
from ssd_jax.ahead_of_time.program import Request, lower_program, num_classes_of
from ssd_jax.detector import build_detector, predict, predict_with_losses
from ssd_jax.errors import ConfigError
from ssd_jax.runtime.devices import get_runner
from ssd_jax.train_step import inference_variables, init_state, train_step

CLASSES = 5


@pytest.mark.parametrize("kind", ["pmap", "jit"])
@pytest.mark.parametrize("what", ["train", "evaluate", "predict"])
def test_it_is_the_program_that_arrays_are_given_to(kind, what):
    config = micro.get_config(batch_size=4, parallel=kind)
    ahead = lower_program(Request(config, what, 2, CLASSES, 16), jax.devices())
    runner = get_runner(kind)
    detector = build_detector(config, CLASSES, runner.axis_name)
    state, batch = init_state(detector), synthetic_batch(config, CLASSES)
    batch["image_id"] = np.arange(4, dtype=np.int32)
    if what == "train":
        step = runner.compile(partial(train_step, detector))
        lowered = step.lower(runner.replicate(state), runner.shard(batch))
    elif what == "evaluate":
        call = runner.compile_predict(partial(predict_with_losses, detector))
        del batch["sample"]
        variables = runner.replicate(inference_variables(state))
        lowered = call.lower(variables, runner.shard(batch))
    else:
        call = runner.compile_predict(partial(predict, detector))
        variables = runner.replicate(inference_variables(state))
        lowered = call.lower(variables, runner.shard({"image": batch["image"]})["image"])
    assert ahead.as_text() == lowered.as_text()


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("quickstart", 5),
        ("ssd300_vgg16_voc", 21),
        ("ssd512_vgg16_voc", 21),
        ("ssd300_vgg16_coco", 81),
        ("ssd300_resnet50_coco", 81),
        ("ssdlite320_mobilenet_v3_coco", 81),
        ("ssd300_mobilenet_v1_tflite", 91),  # the gaps of COCO's numbers included
    ],
)
def test_classes_of_a_config_with_the_background(name, classes):
    config = importlib.import_module(f"configs.{name}").get_config()
    assert num_classes_of(config) == classes
    if not name.startswith("ssd300_mobilenet_v1_tflite"):
        config.data.classes = ()
        assert num_classes_of(config) == classes


@pytest.mark.parametrize(
    ("source", "classes"),
    [("tfds:voc/2007:train", 21), ("tfds:coco/2017:train", 81), ("shapes:train:40", 5)],
)
def test_classes_of_a_data_set_by_its_name(source, classes):
    assert num_classes_of(micro.get_config(data__train=(source,))) == classes


@pytest.mark.parametrize("source", ["voc:mine:train", "coco:images:labels.json", "csv:a:b.csv"])
def test_own_data_needs_the_number(source):
    with pytest.raises(ConfigError, match="--num_classes=21"):
        num_classes_of(micro.get_config(data__train=(source,)))
