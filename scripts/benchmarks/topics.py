"""What can be measured: the names of `--only`, in the order of the table."""

from typing import NamedTuple


class Topic(NamedTuple):
    """A generator of rows, `module.function` of this folder, and its platform."""

    function: str
    platform: str = "cpu"


TOPICS = {
    "train_vgg": Topic("training.vgg"),
    "train_mobilenet": Topic("training.mobilenet"),
    "share": Topic("training.share"),
    "inference": Topic("inference.end_to_end"),
    "postprocess": Topic("inference.postprocessing"),
    "input": Topic("pipeline.images"),
    "waiting": Topic("pipeline.waiting"),
    "blocks": Topic("blocks.all_of_them"),
    "start": Topic("running.start"),
    "recompilation": Topic("running.recompilation"),
    "host": Topic("running.host"),
    "scaling": Topic("scaling.collectives"),
    "gpu": Topic("gpu.all_of_it", "gpu"),
}
