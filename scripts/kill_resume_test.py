"""Kill a run at random moments, resume it, and compare it with one that was not disturbed.

    python -m scripts.kill_resume_test --config=configs/quickstart.py --workdir=DIR [--kills=15] \
        [--saves=20] [--starts=10] [--processes=2]

Both runs are started in DIR by the command line that a user would type. SIGKILL leaves no time to
clean up; `--saves` of them come while a checkpoint is being written, and `--starts` while a run
prepares its folder and its first step. Every start must resume from
the newest complete checkpoint without a warning. In the end every array of the state, the next
batch, the metrics and the best checkpoint must be equal bit for bit. Of a run of several processes
all are killed at once.
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
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from ssd_jax.errors import SsdError
from ssd_jax.runs.lock import read_token
from ssd_jax.runs.metrics import NONDETERMINISTIC_METRICS, read_metrics
from ssd_jax.runtime import command_line

_ROOT = Path(__file__).resolve().parents[1]
STUCK_SECONDS = 600.0  # without a new step, after which a run is killed anyway
_START_SECONDS = 2.0  # a kill comes within so long after a run has locked its folder
_SAVE_SECONDS = 0.2  # a kill comes within so long after a save starts: in it, or just behind


class Counts(NamedTuple):
    """Kills of a test: those that hit a live run, and of these those that cut a save."""

    hits: int
    cut_saves: int


def training_command(config_file: str) -> list[str]:
    """The command line of a run, with the config's flags of this command."""
    overrides = [argument for argument in sys.argv[1:] if argument.startswith("--config.")]
    return [sys.executable, "-m", "ssd_jax.main", f"--config={config_file}", *overrides]


def start_processes(command: list[str], folder: Path, count: int) -> list[subprocess.Popen]:
    """Start the command in `folder` as `count` processes of one run; the main process is first."""
    process_flags = [[]]
    if count > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"]
        process_flags = [[*shared, f"--process_id={index}"] for index in range(count)]
    with log_path(folder).open("a") as log:
        return [
            subprocess.Popen([*command, f"--workdir={folder}", *each], cwd=_ROOT, stderr=log)
            for each in process_flags
        ]


def run_to_end(command: list[str], folder: Path, count: int = 1) -> None:
    """Run the command in `folder` to its end. Raises SsdError when it fails."""
    processes = start_processes(command, folder, count)
    if any([process.wait() for process in processes]):
        raise _run_failed(folder)


def run_and_kill(
    command: list[str], folder: Path, is_due: Callable[[], bool], delay: float, count: int = 1
) -> bool:
    """Run the command in `folder` and kill it `delay` seconds after `is_due` returns True.

    Returns whether the kill came before the run's end. Raises SsdError when the run fails.
    """
    main_process, *others = start_processes(command, folder, count)
    deadline = time.monotonic() + STUCK_SECONDS
    while not is_due() and time.monotonic() < deadline and main_process.poll() is None:
        time.sleep(0.01)
    if main_process.poll() is None:
        time.sleep(delay)
    for process in (main_process, *others):  # the others would abort without the main process
        process.kill()
    for process in others:
        process.wait()
    if main_process.wait() > 0:
        raise _run_failed(folder)
    return main_process.returncode < 0


def log_path(folder: Path) -> Path:
    """What the runs in `folder` write to standard error."""
    return folder.parent / f"{folder.name}.log"


def _run_failed(folder: Path) -> SsdError:
    return SsdError(f"the run in {folder} failed:\n{log_path(folder).read_text()[-1000:]}")


class SaveStarted:
    """Whether the `number`-th save from now has started, if called often enough to see each."""

    def __init__(self, folder: Path, number: int):
        self._folder, self._remaining = folder, number
        self._seen = unfinished_saves(folder)  # of a killed run, which the next start removes

    def __call__(self) -> bool:
        unfinished = unfinished_saves(self._folder)
        self._remaining -= len(unfinished - self._seen)
        self._seen = unfinished
        return self._remaining <= 0


def unfinished_saves(folder: Path) -> set[Path]:
    """Checkpoints that are being written, or whose writing a kill has cut."""
    return set(folder.glob("checkpoints/*/*.tmp"))


def newest_save(folder: Path) -> int:
    """Step of the newest complete checkpoint, 0 without one."""
    names = [path.name for path in folder.glob("checkpoints/*/*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def start_steps(folder: Path) -> list[int]:
    """The step from which each run in `folder` started, by its log."""
    matches = re.findall(r"\((?:resumed at|from) step (\d+) of", log_path(folder).read_text())
    return [int(step) for step in matches]


def has_step(folder: Path, step: int) -> bool:
    """Whether step `step` or a later one is in the metrics."""
    return last_step(folder) >= step


def last_step(folder: Path) -> int:
    """The newest step in the metrics, 0 without one."""
    return max((line["step"] for line in read_metrics(folder / "metrics.jsonl")), default=0)


def history(folder: Path) -> list[dict]:
    """Lines of metrics.jsonl without the metrics that differ between equal runs."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in NONDETERMINISTIC_METRICS} for line in lines]


def digests(folder: Path) -> dict[str, str]:
    """sha256 of the arrays of the latest state, the best state, and the next training batch."""
    # Imported here, so that JAX starts only when the runs are over.
    import jax

    from ssd_jax.data import loader
    from ssd_jax.data.sets import open_set
    from ssd_jax.detector import build_detector
    from ssd_jax.runs import checkpoint
    from ssd_jax.runs.folder import read_kept_sets, read_run_info
    from ssd_jax.train_step import abstract_state

    run = read_run_info(folder)
    like = abstract_state(build_detector(run.config, len(run.classes) + 1))
    by_name = {}
    with checkpoint.Checkpoints(folder / "checkpoints", create=False) as checkpoints:
        for series in ("latest", "best"):
            state = jax.device_get(checkpoints.restore(series, like))
            by_name[f"{series} at step {int(state.step)}"] = _digest(jax.tree.leaves(state))
        step = checkpoints.latest_step()
    source = open_set(run.config, "train", run.classes, kept=read_kept_sets(folder))
    batch = next(iter(loader.training_batches(source, run.config, step, step + 1)))
    return by_name | {"next batch": _digest(batch[name] for name in sorted(batch))}


def _digest(arrays: Iterable) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def compare_runs(
    command: list[str],
    folder: Path,
    config: ConfigDict,
    kills: int,
    saves: int,
    seed: int,
    count: int = 1,
    starts: int = 0,
) -> Counts:
    """Make both runs, with kills at `kills` random steps, in `saves` saves and `starts` starts.

    `count` is the number of processes of a run. Raises SsdError where a start is not clean, or the
    runs differ in the end.
    """
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    folder.mkdir(parents=True, exist_ok=True)
    run_to_end(command, undisturbed, count)
    rng, hits, cut_saves = random.Random(seed), 0, 0
    log_path(killed).touch()
    steps = iter(sorted(rng.randrange(config.steps) for _ in range(kills)))
    kinds = ["step"] * kills + ["save"] * saves + ["start"] * starts
    rng.shuffle(kinds)
    for number, kind in enumerate(kinds, 1):
        is_due: Callable[[], bool]
        if kind == "step":
            is_due, delay = partial(has_step, killed, next(steps)), rng.uniform(0.0, 0.5)
        elif kind == "save":
            is_due = SaveStarted(killed, rng.choice((1, 2)))
            delay = rng.uniform(0.0, _SAVE_SECONDS)
        else:
            is_due = partial(_has_other_token, killed, read_token(killed))
            delay = rng.uniform(0.0, _START_SECONDS)
        saved, earlier_starts = newest_save(killed), len(start_steps(killed))
        is_hit = run_and_kill(command, killed, is_due, delay, count)
        hits += is_hit
        check_start(killed, start_steps(killed)[earlier_starts:], saved)
        cut_steps = [int(path.stem) for path in unfinished_saves(killed)]
        cut_saves += bool(cut_steps)
        saved = newest_save(killed)
        if cut_steps and saved < max(cut_steps) - config.save_every:
            raise SsdError(f"the kill at step {max(cut_steps)} lost the saves after {saved}")
        when = f"at step {last_step(killed)}, saved to {saved}" if is_hit else "after the end"
        print(f"kill {number}/{len(kinds)}: {when}" + (", cut a save" if cut_steps else ""))
    saved, earlier_starts = newest_save(killed), len(start_steps(killed))
    run_to_end(command, killed, count)
    check_start(killed, start_steps(killed)[earlier_starts:], saved)
    check_same_end(undisturbed, killed)
    return Counts(hits, cut_saves)


def check_same_end(undisturbed: Path, disturbed: Path) -> None:
    """Raise SsdError where states, next batch, best checkpoint or metrics differ."""
    for what, read in (("states", digests), ("metrics", history)):
        expected, actual = read(undisturbed), read(disturbed)
        if expected != actual:
            raise SsdError(f"the {what} differ:\n{expected}\n{actual}")


def _has_other_token(folder: Path, token: str) -> bool:
    return read_token(folder) not in ("", token)


def check_start(folder: Path, steps: list[int], saved: int) -> None:
    """Raise SsdError where a run started from another step than that of the newest checkpoint.

    Nor may any have found damage.
    """
    log = log_path(folder)
    text = log.read_text()
    if (steps and steps != [saved]) or "cannot be restored" in text or "made again" in text:
        raise SsdError(f"started at {steps} with a checkpoint of step {saved}: see {log}")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    command = training_command(config_flags.get_config_filename(given["config"]))
    counts = compare_runs(
        command, Path(given.workdir), given.config, given.kills, given.saves, given.seed,
        given.processes, given.starts,
    )  # fmt: skip
    print(
        f"{counts.hits} kills in {given.config.steps} steps, {counts.cut_saves} of them cut a "
        "save: every start clean; states, next batch, best checkpoint and metrics equal"
    )


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Folder for both runs; it must be new.")
    flags.DEFINE_integer("kills", 15, "Number of kills at random steps.")
    flags.DEFINE_integer("saves", 0, "Number of kills during a save.")
    flags.DEFINE_integer("starts", 0, "Number of kills during a start.")
    flags.DEFINE_integer("processes", 1, "Number of processes of a run.")
    flags.DEFINE_integer("seed", 0, "Of the moments of the kills.")
    flags.mark_flags_as_required(["config", "workdir"])
    command_line.run(main)
