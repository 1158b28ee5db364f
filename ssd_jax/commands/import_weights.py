"""Import another project's weights as a run.

    ssd-jax import --source=NAME --workdir=RUN (`ssd-jax weights` lists the names)
    ssd-jax import --source=FILE --format=torchvision|tflite|caffe|npz --config=NAME --workdir=RUN
    python -m scripts.import_weights (the same flags)

The run is at step 0: predict with it, evaluate it with `--mode=eval`, or fine-tune from it with
`--config.init.source=RUN`. Nothing in the file is executed or unpickled, and nothing is written
unless all of it fits the config.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssd_jax.config.schema import WEIGHT_FORMATS
from ssd_jax.config.validation import validate


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("source", None, "Weight file, or a name.", required=True)
    flags.DEFINE_enum("format", "", ["", *WEIGHT_FORMATS], "Project that wrote the file.")
    config_flags.DEFINE_config_file(
        "config", None, "The experiment; a name has one of its own.", lock_config=True
    )
    flags.DEFINE_string("workdir", None, "Run folder to make.", required=True)


def main() -> None:
    """The command."""
    given = flags.FLAGS
    if given.config is not None:
        validate(given.config)
    # Imported here, so that an error of the command line is reported before JAX starts.
    from ssd_jax.weights.import_run import import_run

    import_run(given.source, given.format, given.config, Path(given.workdir).expanduser())
