"""Run a config file's sweep, and report on it: docs/sweeps.md.

python scripts/sweep.py --config=configs/sweeps/prior_scales.py --workdir=DIR --launcher=local
python scripts/sweep.py --workdir=DIR --report
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scripts.sweeping import launch, plan, record, slurm  # noqa: E402
from ssd_jax import cli  # noqa: E402
from ssd_jax.errors import ConfigError  # noqa: E402


def main() -> None:
    """The command."""
    given, folder = flags.FLAGS, Path(flags.FLAGS.workdir)
    if given.report:
        from scripts.sweeping import report

        print(report.write(folder))
        return
    sweep = _sweep()
    plan.check_same(sweep, folder)
    left = _list(sweep, folder)
    if given.dry_run:
        return
    if Path.cwd() != ROOT:
        raise ConfigError(f"runs are started in the project's folder: cd {ROOT}")
    plan.claim(sweep, folder)
    python = "python" if given.launcher == "print" else sys.executable
    jobs = [launch.job(sweep, run, folder, python) for run in left]
    if given.launcher == "print":
        launch.show(jobs)
    elif given.launcher == "local":
        launch.local(jobs)
    elif jobs:
        submitted = slurm.submit(jobs, folder / "slurm", slurm.parameters(given.slurm))
        print(f"{len(submitted)} jobs, {submitted[0].job_id} to {submitted[-1].job_id}")


def _sweep() -> plan.Sweep:
    if flags.FLAGS.config is None:
        raise ConfigError("--config is missing: name a file with a get_hyper(hyper)")
    flag = flags.FLAGS["config"]
    values = config_flags.get_override_values(flag)
    given = {f"config.{name}": value for name, value in values.items()}
    return plan.expand(config_flags.get_config_filename(flag), given)


def _list(sweep: plan.Sweep, folder: Path) -> list[plan.Run]:
    """Say of each run how far it is; those that are not finished come back."""
    left = []
    for run in sweep.runs:
        found = record.read(folder, run)
        state = " ".join([found.state, found.detail]).strip()
        print(f"{run.id}  {plan.words(run.overrides)}  {state}", file=sys.stderr)
        if found.state != "finished":
            left.append(run)
    print(
        f"{len(sweep.runs)} runs, {len(left)} to do; --workdir={folder} --report shows results",
        file=sys.stderr,
    )
    return left


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "A file with get_hyper.", lock_config=True)
    flags.DEFINE_string("workdir", None, "The sweep's folder.", required=True)
    flags.DEFINE_enum("launcher", "print", ["print", "local", "slurm"], "What to do with the runs.")
    flags.DEFINE_list("slurm", [], "For SLURM: timeout_min=60,slurm_partition=gpu, as submitit.")
    flags.DEFINE_bool("dry_run", False, "Only list the runs.")
    flags.DEFINE_bool("report", False, "Write DIR/report of what there is; needs no --config.")
    cli.run(main)
