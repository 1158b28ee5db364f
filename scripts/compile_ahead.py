"""Compile a config for TPUs that are not attached, and print the compiler's estimates.

    python -m scripts.compile_ahead --config=configs/NAME.py --topology=v5e:4x4 \
        [--per_device=32] [--what=train|evaluate|predict] [--fit] [--json=FILE] \
        [--config.model.dtype=bfloat16]

Compiles the program that this config runs on these chips, by pmap or jit as it says: memory, time,
parts, operations, loops, collectives. No data is read. Nothing runs on a device, and nothing is
measured: docs/accelerators.md. Needs `pip install "jax[tpu]"`, no TPU, and minutes.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssd_jax.ahead_of_time.analysis import analyze
from ssd_jax.ahead_of_time.chips import CHIPS
from ssd_jax.ahead_of_time.fit import largest_batch
from ssd_jax.ahead_of_time.program import Request, num_classes_of
from ssd_jax.ahead_of_time.report import format_report
from ssd_jax.ahead_of_time.topology import load_topology
from ssd_jax.config.validation import validate
from ssd_jax.runtime import command_line
from ssd_jax.runtime.files import write_json


def main() -> None:
    """The command."""
    given = flags.FLAGS
    validate(given.config)
    classes = given.num_classes or num_classes_of(given.config)
    request = Request(given.config, given.what, given.per_device, classes, given.boxes)
    topology = load_topology(given.topology)
    if given.fit:
        analysis, tries = largest_batch(request, topology)
        analysis["tries"] = tries
    else:
        analysis = analyze(request, topology)
    name = config_flags.get_config_filename(given["config"])
    print(f"config      {name}\n{format_report(analysis)}")
    if given.json:
        write_json(Path(given.json), {"config": name} | analysis)


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    chips = ", ".join(CHIPS)
    flags.DEFINE_string("topology", "v5e:2x2", f"Chip ({chips}) and shape of the slice.")
    flags.DEFINE_integer("per_device", 32, "Images on each device.", lower_bound=1)
    flags.DEFINE_enum("what", "train", ["train", "evaluate", "predict"], "The program.")
    flags.DEFINE_integer("boxes", 16, "Boxes of each image, padded.", lower_bound=1)
    flags.DEFINE_integer("num_classes", None, "With the background; else from the config.", 2)
    flags.DEFINE_bool("fit", False, "Find the largest batch that a device holds.")
    flags.DEFINE_string("json", None, "File for the numbers.")
    flags.mark_flag_as_required("config")
    command_line.run(main)
