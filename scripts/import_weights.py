"""Make a run of another project's weights.

    python scripts/import_weights.py --source=FILE --format=torchvision|tflite|caffe|npz \
        --config=configs/NAME.py --workdir=RUN

The run is at step 0: `predict`, `--mode=eval` and `--config.init.source=RUN` take it. Nothing in
the file is executed or unpickled, and nothing is written unless all of it fits the config.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ssd_jax import cli, schema
from ssd_jax import config as configs


def main() -> None:
    """The command."""
    given = flags.FLAGS
    configs.validate(given.config)
    # Imported here, so that a mistake on the command line is answered before JAX starts.
    from ssd_jax import init

    init.write_run(Path(given.source), given.format, given.config, Path(given.workdir))


if __name__ == "__main__":
    flags.DEFINE_string("source", None, "Weight file.", required=True)
    flags.DEFINE_enum("format", None, schema.WEIGHT_FORMATS, "Of whom.", required=True)
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Run folder to make.", required=True)
    flags.mark_flag_as_required("config")
    cli.run(main)
