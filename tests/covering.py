"""`python -m covering`: evaluate sets of several sizes with something that is cheap to check in
the place of the network and of the metrics, and print what came to be scored, as JSON lines."""

import json

import jax.numpy as jnp
import micro
from absl import app, flags

from ssd_jax import evaluate
from ssd_jax.data import sources
from ssd_jax.detector import build_detector
from ssd_jax.multibox.losses import MultiboxLoss
from ssd_jax.runtime import devices, distributed
from ssd_jax.types import Detections

SIZES = (6, 7, 9)


def config_of(size):
    return micro.get_config(batch_size=6, data__test=(f"shapes:test:{size}",))


def brightness(detector, variables, batch):
    """One detection an image, whose score is the mean of the pixels; its loss is the same."""
    images = batch["image"]
    scores = images.astype(jnp.float32).mean((1, 2, 3))[:, None] * variables["scale"]
    boxes = jnp.tile(jnp.array([0.0, 0.0, 1.0, 1.0]), (len(images), 1, 1))
    loss = MultiboxLoss(scores[:, 0], scores[:, 0] * 2, jnp.ones(len(images), jnp.int32), None)
    return Detections(boxes, scores, jnp.ones_like(scores, jnp.int32)), loss


def summary(matches, classes):
    """What is to be scored, in its order."""
    truths, found = matches
    yield "found", [detection["scores"].tolist() for detection in found]
    yield "truths", [truth["boxes"].tolist() for truth in truths]
    yield "sizes", [truth["size"] for truth in truths]


def main(_):
    given = flags.FLAGS
    distributed.initialize(given.coordinator, given.num_processes, given.process_id)
    evaluate.predict_with_losses = brightness
    evaluate.voc.match_classes = lambda truths, found, classes: (truths, found)
    evaluate.voc.average_precisions = summary
    evaluate.coco_scores = evaluate.thresholds.evaluate = lambda *_: ()
    for name in ("pmap", "jit"):
        for size in SIZES:
            config, runner = config_of(size), devices.get_runner(name)
            source = sources.make_source(config.data.test, config)
            detector = build_detector(config, len(source.classes) + 1, runner.axis_name)
            variables = runner.replicate({"scale": jnp.float32(0.5)})
            scores, _ = evaluate.Evaluator(detector, source, runner)(variables)
            print(json.dumps(scores), flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("coordinator", None, "")
    flags.DEFINE_integer("num_processes", None, "")
    flags.DEFINE_integer("process_id", None, "")
    app.run(main)
