"""Train a detector, or evaluate one.

    ssd-jax train --config=NAME [--workdir=DIR]
    ssd-jax eval --workdir=DIR [--config=NAME] [--checkpoint=best|latest|STEP]
    python -m ssd_jax.main --config=configs/NAME.py [--mode=train|eval] (the same flags)

The same command resumes a run that was stopped. Run folder and exit codes: docs/operations.md.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssd_jax.config.validation import validate
from ssd_jax.errors import ConfigError
from ssd_jax.runtime import command_line


def define_flags() -> None:
    """The command's flags; not at import, since other commands have flags of the same name."""
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_string(
        "workdir", None, "Run folder; by default runs/NAME of the config, or PHOTOS."
    )
    flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.")
    flags.DEFINE_string("checkpoint", "best", "For eval: best, latest or a step.")
    flags.DEFINE_string("profile_steps", None, "For train: A:B traces these steps.")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where none is detected.")
    flags.DEFINE_integer("num_processes", None, "Number of processes; 1 does not look for others.")
    flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")


def main() -> None:
    """Check the command line, start JAX, and run the mode."""
    given = flags.FLAGS
    if given.config is not None:
        validate(given.config)
    elif given.mode == "train" or not given.workdir:
        raise ConfigError("--config=NAME is required, as --config=quickstart; see --help")
    steps = given.config.steps if given.config is not None else 0
    profiled = command_line.parse_step_range(given["profile_steps"], steps)
    # Imported here, so that an error of the command line is reported before JAX starts.
    from ssd_jax.runtime import distributed
    from ssd_jax.runtime.compilation import configure_jax

    configure_jax(given.config is not None and given.config.deterministic)
    distributed.initialize(given.coordinator, given.num_processes, given.process_id)
    with distributed.abort_all_on_error():
        command_line.exit_on_error(lambda: _run(profiled))


def _run(profiled: range) -> None:
    from ssd_jax.evaluate import evaluate_run
    from ssd_jax.runs.folder import read_run_info
    from ssd_jax.runs.outcome import describe_origin, format_end
    from ssd_jax.runs.results import PRIMARY_METRIC, format_scores
    from ssd_jax.runtime import distributed
    from ssd_jax.training import train_and_evaluate

    given = flags.FLAGS
    folder = Path(given.workdir or default_workdir()).expanduser()
    config = given.config if given.config is not None else read_run_info(folder).config
    is_training = given.mode == "train"
    if is_training:
        scores = train_and_evaluate(config, folder, profiled)
    else:
        scores = evaluate_run(folder, config, given.checkpoint)
    if not distributed.is_main_process():
        return
    if is_training:
        print(format_end(folder, scores))
        return
    print(format_scores(scores, config))
    print(f"scores      {folder / 'results.json'}\npictures    {folder / 'pictures'}")
    print(f"mAP@.5      {scores[PRIMARY_METRIC]:.4f}{describe_origin(folder)}")


def default_workdir() -> Path:
    """runs/NAME of the config file."""
    file_name = config_flags.get_config_filename(flags.FLAGS["config"])
    return Path("runs") / Path(file_name.partition(":")[0]).stem


if __name__ == "__main__":
    command_line.run_command(sys.modules[__name__])
