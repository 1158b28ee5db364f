"""Kill a run at random moments, start it again, and compare it with one that nothing disturbed.

    python scripts/soak.py --config=configs/quickstart.py --workdir=DIR [--kills=15] [--saves=20]
                           [--processes=2]

Both runs are made in DIR with the command line that a user would type. SIGKILL leaves no time to
clean up; `--saves` of them come while a checkpoint is being written. Every start must be clean and
go on from the newest whole save; in the end every array of the state, the next batch, the history
and the best checkpoint must be equal bit for bit. A run of several processes loses all at once.
"""

import hashlib
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from ssd_jax import cli, logs  # noqa: E402
from ssd_jax.errors import SsdError  # noqa: E402

_PATIENCE = 600.0  # seconds without a new step before a run counts as stuck
_SAVE_SECONDS = 0.2  # kills come within so long after a save has begun: in it, or just behind


def arguments(config_file: str) -> list[str]:
    """The command line of a run, the config's flags as they were given here."""
    changes = [each for each in sys.argv[1:] if each.startswith("--config.")]
    return [sys.executable, "-m", "ssd_jax.main", f"--config={config_file}", *changes]


def begin(command: list[str], folder: Path, count: int) -> list[subprocess.Popen]:
    """Start the command in `folder`, as `count` processes of one run; the lead is the first."""
    each = [[]]
    if count > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"]
        each = [[*shared, f"--process_id={index}"] for index in range(count)]
    with log(folder).open("a") as file:
        return [
            subprocess.Popen([*command, f"--workdir={folder}", *own], cwd=ROOT, stderr=file)
            for own in each
        ]


def run_whole(command: list[str], folder: Path, count: int = 1) -> None:
    """Start the command in `folder` and let it come to its end."""
    processes = begin(command, folder, count)
    if any([process.wait() for process in processes]):
        raise SsdError(f"the run in {folder} failed:\n{log(folder).read_text()[-1000:]}")


def run_until(
    command: list[str], folder: Path, ready: Callable[[], bool], delay: float, count: int = 1
) -> bool:
    """Start the command, kill it `delay` seconds after `ready` says so.

    False when the run came to its end before that. Raises SsdError when it failed by itself.
    """
    lead, *others = begin(command, folder, count)
    deadline = time.monotonic() + _PATIENCE
    while not ready() and time.monotonic() < deadline and lead.poll() is None:
        time.sleep(0.01)
    if lead.poll() is None:
        time.sleep(delay)
    for process in (lead, *others):  # without the lead, the others end by themselves too
        process.kill()
    for process in others:
        process.wait()
    if lead.wait() > 0:
        raise SsdError(f"the run in {folder} failed:\n{log(folder).read_text()[-1000:]}")
    return lead.returncode < 0


def log(folder: Path) -> Path:
    """Where what the runs in `folder` say is kept."""
    return folder.parent / f"{folder.name}.log"


class SavesBegun:
    """Called often enough, it says when the `number`-th save from now has begun."""

    def __init__(self, folder: Path, number: int):
        self._folder, self._left = folder, number
        self._before = unfinished(folder)  # of a run that was killed: the next start clears them

    def __call__(self) -> bool:
        now = unfinished(self._folder)
        self._left -= len(now - self._before)
        self._before = now
        return self._left <= 0


def unfinished(folder: Path) -> set[Path]:
    """Saves that are being written, or that a kill has cut."""
    return set(folder.glob("checkpoints/*/*.tmp"))


def newest_save(folder: Path) -> int:
    """Step of the newest whole save, 0 without one."""
    names = [path.name for path in folder.glob("checkpoints/*/*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def starts(folder: Path) -> list[int]:
    """Steps from which the runs in `folder` went on."""
    found = re.findall(r"\((?:resumed at|from) step (\d+) of", log(folder).read_text())
    return [int(step) for step in found]


def has_step(folder: Path, step: int) -> bool:
    """Whether step `step` or a later one is in the history."""
    return last_step(folder) >= step


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
    """sha256 of the arrays of the latest and the best state, by series and step; of the batch."""
    import jax

    from ssd_jax import checkpoint, step, workdir
    from ssd_jax.data import loader, sources

    run = workdir.load(folder)
    like = step.abstract_state(step.build(run.config, len(run.classes) + 1))
    found = {}
    with checkpoint.Checkpoints(folder / "checkpoints", create=False) as checkpoints:
        for series in ("latest", "best"):
            state = jax.device_get(checkpoints.restore(series, like))
            found[f"{series} at step {int(state.step)}"] = _digest(jax.tree.leaves(state))
        at = checkpoints.latest_step()
    source = sources.make(run.config.data.train, run.config, run.classes)
    batch = next(iter(loader.training_batches(source, run.config, at, at + 1)))
    return found | {"next batch": _digest(batch[name] for name in sorted(batch))}


def _digest(arrays: Iterable) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def soak(
    command: list[str],
    folder: Path,
    config: ConfigDict,
    kills: int,
    saves: int,
    seed: int,
    count: int = 1,
) -> tuple[int, int]:
    """Both runs, with kills at `kills` random steps and in `saves` saves of the second.

    The number that hit it alive, and of these how many cut a save.
    """
    whole, broken = folder / "whole", folder / "broken"
    folder.mkdir(parents=True, exist_ok=True)
    run_whole(command, whole, count)
    rng, hit, cut = random.Random(seed), 0, 0
    log(broken).touch()
    steps = iter(sorted(rng.randrange(config.steps) for _ in range(kills)))
    kinds = rng.sample(["step"] * kills + ["save"] * saves, kills + saves)
    for number, kind in enumerate(kinds, 1):
        if kind == "step":
            ready, delay = partial(has_step, broken, next(steps)), rng.uniform(0.0, 0.5)
        else:
            ready, delay = SavesBegun(broken, rng.choice((1, 2))), rng.uniform(0.0, _SAVE_SECONDS)
        newest, known = newest_save(broken), len(starts(broken))
        alive = run_until(command, broken, ready, delay, count)
        hit += alive
        _check_start(broken, starts(broken)[known:], newest)
        begun = [int(path.stem) for path in unfinished(broken)]
        cut += bool(begun)
        if begun and newest_save(broken) < max(begun) - config.save_every:
            raise SsdError(f"the kill at {max(begun)} lost all after {newest_save(broken)}")
        when = f"at step {last_step(broken)}, saved to {newest_save(broken)}" if alive else "late"
        print(f"kill {number}/{len(kinds)}: {when}" + (", cut a save" if begun else ""))
    newest, known = newest_save(broken), len(starts(broken))
    run_whole(command, broken, count)
    _check_start(broken, starts(broken)[known:], newest)
    for what, found in (("states", digests), ("histories", history)):
        expected, got = found(whole), found(broken)
        if expected != got:
            raise SsdError(f"the {what} differ:\n{expected}\n{got}")
    return hit, cut


def _check_start(folder: Path, started: list[int], newest: int) -> None:
    if (started and started != [newest]) or "cannot be restored" in log(folder).read_text():
        raise SsdError(f"started at {started} with a save of {newest}: see {log(folder)}")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    command = arguments(config_flags.get_config_filename(given["config"]))
    folder = Path(given.workdir)
    counts = (given.kills, given.saves, given.seed, given.processes)
    hit, cut = soak(command, folder, given.config, *counts)
    print(
        f"{hit} kills in {given.config.steps} steps, {cut} of them cut a save: every start clean; "
        "states, next batch, best checkpoint and history equal"
    )


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Folder for both runs; it must be new.")
    flags.DEFINE_integer("kills", 15, "How often to kill at a random step.")
    flags.DEFINE_integer("saves", 0, "How often to kill during a save.")
    flags.DEFINE_integer("processes", 1, "How many processes a run has.")
    flags.DEFINE_integer("seed", 0, "Of the moments of the kills.")
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main)
