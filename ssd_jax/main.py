"""`python -m ssd_jax.main --config=configs/NAME.py [--workdir=DIR] [--mode=train|eval] …`."""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssd_jax import cli
from ssd_jax import config as configs


def define_flags() -> None:
    """The command's flags; not at import, since other commands have flags of the same name."""
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Run folder; runs/NAME of the config by default.")
    flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.")
    flags.DEFINE_string("checkpoint", "best", "For eval: best, latest or a step.")
    flags.DEFINE_string("profile_steps", None, "For train: A:B records these steps.")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where none is detected.")
    flags.DEFINE_integer("num_processes", None, "How many processes; 1 does not look for others.")
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
    flags.mark_flag_as_required("config")


def main() -> None:
    """Start the mode that was asked for."""
    given = flags.FLAGS
    configs.validate(given.config)
    profiled = cli.step_range(given["profile_steps"], given.config.steps)
    # Imported here, so that a mistake on the command line is answered before JAX starts.
    from ssd_jax import cluster, startup

    startup.prepare(given.config.deterministic)
    cluster.start(given.coordinator, given.num_processes, given.process_id)
    with cluster.together():
        cli.guarded(lambda: _run(profiled))


def _run(profiled: range) -> None:
    from ssd_jax import evaluate, parallel, train

    given = flags.FLAGS
    config, workdir = given.config, Path(given.workdir or _default_workdir())
    if given.mode == "train":
        scores = train.train_and_evaluate(config, workdir, profiled)
    else:
        scores = evaluate.evaluate_run(workdir, config, given.checkpoint)
    if not parallel.is_lead():
        return
    print(evaluate.table(scores, config))
    print(f"scores      {workdir / 'results.json'}\npictures    {workdir / 'pictures'}")
    print(f"mAP@.5      {scores[evaluate.HEADLINE]:.4f}")


def _default_workdir() -> Path:
    file_name = config_flags.get_config_filename(flags.FLAGS["config"])
    return Path("runs") / Path(file_name.partition(":")[0]).stem


if __name__ == "__main__":
    define_flags()
    cli.run(main)
