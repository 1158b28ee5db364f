"""Topics, the names of `--only`, in the order of the table."""

from typing import NamedTuple


class Topic(NamedTuple):
    """A generator of rows, `module.function` of this folder, and its platform."""

    function: str
    platform: str = "cpu"


TOPICS = {
    "train_vgg": Topic("training.vgg"),
    "train_mobilenet": Topic("training.mobilenet"),
    "share": Topic("training.loss_share"),
    "inference": Topic("inference.end_to_end"),
    "postprocess": Topic("inference.postprocessing"),
    "input": Topic("pipeline.throughput"),
    "waiting": Topic("pipeline.data_wait"),
    "blocks": Topic("blocks.all_blocks"),
    "start": Topic("overheads.start"),
    "recompilation": Topic("overheads.recompilation"),
    "host": Topic("overheads.host"),
    "scaling": Topic("scaling.collectives"),
    "gpu": Topic("gpu.all_rows", "gpu"),
}
