"""Run the sweep of a config file, and report on it: docs/sweeps.md.

ssd-jax sweep --config=sweeps/prior_scales --workdir=DIR --launcher=local
ssd-jax sweep --workdir=DIR --report
python -m scripts.sweep (the same flags)
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssd_jax.errors import ConfigError
from ssd_jax.runtime.progress import log_line
from ssd_jax.sweeps import launch, plan, slurm
from ssd_jax.sweeps.run_status import read_status
from ssd_jax.sweeps.sweep_file import with_saved_ids, write_sweep


def define_flags() -> None:
    """The command's flags."""
    config_flags.DEFINE_config_file("config", None, "A file with get_hyper.", lock_config=True)
    flags.DEFINE_string("workdir", None, "The sweep's folder.", required=True)
    flags.DEFINE_enum("launcher", "print", ["print", "local", "slurm"], "How to run the runs.")
    flags.DEFINE_list("slurm", [], "For SLURM: timeout_min=60,slurm_partition=gpu, as submitit.")
    flags.DEFINE_bool("dry_run", False, "Only list the runs.")
    flags.DEFINE_bool("report", False, "Write DIR/report of what there is; needs no --config.")


def main() -> None:
    """The command."""
    given, folder = flags.FLAGS, Path(flags.FLAGS.workdir).expanduser()
    if given.report:
        from ssd_jax.sweeps.report import write_report  # imports Matplotlib

        print(write_report(folder))
        return
    sweep = with_saved_ids(_expand_sweep(), folder)
    unfinished = _list_unfinished(sweep, folder)
    if given.dry_run:
        return
    write_sweep(sweep, folder)
    python = "python" if given.launcher == "print" else sys.executable
    jobs = [launch.make_job(sweep, run, folder, python) for run in unfinished]
    if given.launcher == "print":
        launch.print_commands(jobs)
    elif given.launcher == "local":
        launch.run_locally(jobs)
    elif jobs:
        submitted = slurm.submit(jobs, folder / "slurm", slurm.parse_parameters(given.slurm))
        print(f"{len(submitted)} jobs, {submitted[0].job_id} to {submitted[-1].job_id}")


def _expand_sweep() -> plan.Sweep:
    if flags.FLAGS.config is None:
        raise ConfigError("--config is missing: name a file with a get_hyper(hyper)")
    flag = flags.FLAGS["config"]
    values = config_flags.get_override_values(flag)
    overrides = {f"config.{name}": value for name, value in values.items()}
    return plan.expand(config_flags.get_config_filename(flag), overrides)


def _list_unfinished(sweep: plan.Sweep, folder: Path) -> list[plan.SweepRun]:
    """Print the state of each run; returns those that are not finished."""
    statuses = [read_status(folder, run) for run in sweep.runs]
    for run, state, detail, *_ in statuses:
        log_line(f"{run.id}  {plan.format_overrides(run.overrides)}  {state} {detail}".rstrip())
    unfinished = [status.run for status in statuses if status.state != "finished"]
    counts = f"{len(sweep.runs)} runs, {len(unfinished)} to do"
    log_line(f"{counts}; --workdir={folder} --report shows results")
    return unfinished
