"""Fill the disk of a run several times, free it, go on, and compare with a run that had room.

    python -m scripts.full_disk_test --config=configs/quickstart.py --workdir=DIR [--times=5] \
        [--megabytes=24]

The whole run folder lies on a small disk of its own (tmpfs, which takes the right to mount). When
a new checkpoint is complete, another file takes all that is left. The run must end with exit code
6 within ten seconds of its next write, and the next start must resume from the newest checkpoint.
In the end every array of the state, the next batch, the metrics and the best checkpoint must be
equal to those of an undisturbed run bit for bit.
"""

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from scripts import kill_resume_test as kills
from ssd_jax.errors import ResourceError, SsdError
from ssd_jax.runtime import command_line

_END_SECONDS = 10.0


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a tmpfs at `folder`, which is made. Raises ResourceError where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={megabytes}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        raise ResourceError(f"cannot mount a small disk at {folder}: start this as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill_and_wait(process: subprocess.Popen, ballast: Path) -> float:
    """Fill the disk until the process ends; the seconds from the first full disk to its end."""
    full = None
    with ballast.open("wb", buffering=0) as file:
        while process.poll() is None:
            try:
                file.write(bytes(1 << 12))
            except OSError:
                full = full or time.monotonic()
                time.sleep(0.001)
                if time.monotonic() - full > kills.STUCK_SECONDS:
                    process.kill()
    return time.monotonic() - (full or time.monotonic())


def disturb(command: list[str], folder: Path, seed: int) -> float:
    """Start the run, fill the disk after a new checkpoint, free it; seconds until it ended."""
    saved = kills.newest_save(folder)
    (process,) = kills.start_processes(command, folder, 1)
    while kills.newest_save(folder) <= saved and process.poll() is None:
        time.sleep(0.001)
    time.sleep(random.Random(seed).uniform(0.0, 0.3))
    ballast = folder / "ballast"
    seconds = fill_and_wait(process, ballast)
    ballast.unlink()
    if process.returncode != ResourceError.exit_code or seconds > _END_SECONDS:
        raise SsdError(
            f"ended with {process.returncode} after {seconds:.1f} s on a full disk: see "
            f"{kills.log_path(folder)}"
        )
    return seconds


def main() -> None:
    """The command."""
    given = flags.FLAGS
    command = kills.training_command(config_flags.get_config_filename(given["config"]))
    workdir = Path(given.workdir)
    undisturbed = workdir / "undisturbed"
    undisturbed.parent.mkdir(parents=True, exist_ok=True)
    kills.run_to_end(command, undisturbed)
    with small_disk(workdir / "disturbed", given.megabytes) as folder:
        for number in range(given.times):
            seconds = disturb(command, folder, number)
            saved = kills.newest_save(folder)
            print(f"{number + 1}/{given.times}: saved to {saved}, ended {seconds:.1f} s later")
            earlier_starts = len(kills.start_steps(folder))
            kills.run_and_kill(command, folder, lambda n=saved: kills.has_step(folder, n + 1), 0.0)
            kills.check_start(folder, kills.start_steps(folder)[earlier_starts:], saved)
        kills.run_to_end(command, folder)
        kills.check_same_end(undisturbed, folder)
    print(f"{given.times} full disks: states, next batch, best checkpoint and metrics equal")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Folder for both runs; it must be new.")
    flags.DEFINE_integer("times", 5, "How often the disk is filled.")
    flags.DEFINE_integer("megabytes", 24, "Size of the disk.")
    flags.mark_flags_as_required(["config", "workdir"])
    command_line.run(main)
