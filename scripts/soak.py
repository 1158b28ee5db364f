"""Kill a run at random moments, start it again, and compare it with one that nothing disturbed.

    python scripts/soak.py --config=configs/quickstart.py --workdir=DIR [--kills=15]

Both runs are made in DIR with the command line that a user would type. SIGKILL leaves no time to
clean up; in the end every array of the state, the history and the best checkpoint must be equal
bit for bit.
"""

import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from absl import flags
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from ssd_jax import cli, logs  # noqa: E402
from ssd_jax.errors import SsdError  # noqa: E402

_PATIENCE = 600.0  # seconds without a new step before a run counts as stuck


def arguments(config_file: str) -> list[str]:
    """The command line of a run, the config's flags as they were given here."""
    changes = [each for each in sys.argv[1:] if each.startswith("--config.")]
    return [sys.executable, "-m", "ssd_jax.main", f"--config={config_file}", *changes]


def run_whole(command: list[str], folder: Path) -> None:
    """Start the command in `folder` and let it come to its end."""
    result = subprocess.run([*command, f"--workdir={folder}"], cwd=ROOT, stderr=subprocess.PIPE)
    if result.returncode:
        raise SsdError(f"the run in {folder} failed:\n{result.stderr.decode()[-1000:]}")


def run_until(command: list[str], folder: Path, step: int, delay: float) -> bool:
    """Start the command, kill it `delay` seconds after it wrote step `step` or a later one.

    False when the run ended by itself before that.
    """
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        process = subprocess.Popen([*command, f"--workdir={folder}"], cwd=ROOT, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        while last_step(folder) < step and time.monotonic() < deadline:
            if process.poll() is not None:
                return False
            time.sleep(0.02)
        time.sleep(delay)
        process.kill()
        return process.wait() < 0


def last_step(folder: Path) -> int:
    """The newest step in the history, 0 without one."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return max([json.loads(line)["step"] for line in lines if line.endswith("}")], default=0)


def history(folder: Path) -> list[dict]:
    """Lines of metrics.jsonl without what differs between equal runs."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in logs.MEASURED} for line in lines]


def digests(folder: Path) -> dict[str, str]:
    """sha256 of the arrays of the latest and of the best state, by series and step."""
    import jax

    from ssd_jax import checkpoint, step, workdir

    run = workdir.load(folder)
    like = step.abstract_state(step.build(run.config, len(run.classes) + 1))
    found = {}
    with checkpoint.Checkpoints(folder / "checkpoints", create=False) as checkpoints:
        for series in ("latest", "best"):
            state = jax.device_get(checkpoints.restore(series, like))
            digest = hashlib.sha256()
            for leaf in jax.tree.leaves(state):
                digest.update(leaf.tobytes())
            found[f"{series} at step {int(state.step)}"] = digest.hexdigest()
    return found


def soak(command: list[str], folder: Path, steps: int, kills: int, seed: int) -> int:
    """Both runs, with `kills` kills in the second; the number that hit it alive."""
    whole, broken = folder / "whole", folder / "broken"
    run_whole(command, whole)
    rng, hit = random.Random(seed), 0
    targets = sorted(rng.randrange(steps) for _ in range(kills))
    for number, target in enumerate(targets, 1):
        alive = run_until(command, broken, target, rng.uniform(0.0, 0.5))
        hit += alive
        print(
            f"kill {number}/{kills}: " + (f"at step {last_step(broken)}" if alive else "too late")
        )
    run_whole(command, broken)
    for what, found in (("states", digests), ("histories", history)):
        expected, got = found(whole), found(broken)
        if expected != got:
            raise SsdError(f"the {what} differ:\n{expected}\n{got}")
    return hit


def main() -> None:
    """The command."""
    given = flags.FLAGS
    file = config_flags.get_config_filename(given["config"])
    hit = soak(arguments(file), Path(given.workdir), given.config.steps, given.kills, given.seed)
    print(f"{hit} kills in {given.config.steps} steps: states, best checkpoint and history equal")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Folder for both runs; it must be new.")
    flags.DEFINE_integer("kills", 15, "How often to kill.")
    flags.DEFINE_integer("seed", 0, "Of the moments of the kills.")
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main)
