"""What goes wrong while a run is alive, with real processes, signals and a real full disk."""

import os
import shutil
import subprocess
import sys
import time

import micro
import pytest
from commands import MICRO, ROOT, call, command

from scripts import full_disk_test, kill_resume_test
from ssd_jax import training
from ssd_jax.errors import CheckpointError, ConfigError, ResourceError

LONG = [*MICRO, "--config.steps=100000", "--config.log_every=1"]


def wait_for(ready, seconds=300.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return True
        time.sleep(0.05)
    return False


def alive(session):
    """Processes of a session, by /proc; those that only wait to be reaped do not count."""
    found = []
    for folder in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{folder}/stat") as file:
                state, _, _, its_session = file.read().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(folder))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_a_live_run_holds_its_folder_and_leaves_no_process_when_it_is_killed(tmp_path):
    run = tmp_path / "run"
    with (tmp_path / "log").open("w") as log:
        trainer = subprocess.Popen(
            command("main", *LONG, f"--workdir={run}"), cwd=ROOT, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        # The loader's buffer is full by then, and a save or two are under way.
        assert wait_for(lambda: kill_resume_test.last_step(run) > 3), (tmp_path / "log").read_text()
        assert trainer.pid in alive(trainer.pid)
        second = call("main", *LONG, f"--workdir={run}")
        assert second.returncode == 6 and "in use by a live run" in second.stderr
        assert "devices" not in second.stderr  # refused before it made a model
        assert trainer.poll() is None
    finally:
        trainer.kill()
    trainer.wait()
    assert wait_for(lambda: not alive(trainer.pid), 5.0), alive(trainer.pid)


def mounted(folder, *options):
    folder.mkdir(exist_ok=True)
    return subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 12 MB of its own."""
    disk = full_disk_test.small_disk(tmp_path / "disk", 12)
    try:
        folder = disk.__enter__()
    except ResourceError:
        pytest.skip("no right to mount a small disk")
    yield folder
    disk.__exit__(None, None, None)


@pytest.mark.parametrize("log_every", [1, 1000])  # the metrics or a checkpoint find it first
def test_a_full_disk_stops_the_run_which_goes_on_when_there_is_room(small_disk, log_every):
    run = small_disk / "run"
    process = subprocess.Popen(
        command("main", *LONG, f"--workdir={run}", f"--config.log_every={log_every}"),
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert wait_for(lambda: kill_resume_test.newest_save(run) > 0)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            pass
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 6, said
    assert "cannot write" in said and "No space left on device" in said, said
    good = kill_resume_test.newest_save(run)
    debris = run / "checkpoints" / "latest" / f"{good + 2}.tmp"
    debris.mkdir(exist_ok=True)  # as a kill would leave it
    ballast.unlink()
    again = call("main", *LONG, f"--workdir={run}", f"--config.steps={good + 3}")
    assert again.returncode == 0, again.stderr
    assert f"resumed at step {good} of {good + 3}" in again.stderr
    assert not debris.exists()


@pytest.fixture
def read_only_disk(tmp_path):
    folder = tmp_path / "disk"
    if shutil.which("mount") is None or mounted(folder, "-o", "ro").returncode:
        pytest.skip("no right to mount a disk that cannot be written")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_made(read_only_disk):
    refused = call("main", *MICRO, f"--workdir={read_only_disk}")
    assert refused.returncode == 6 and "Read-only file system" in refused.stderr
    assert "devices" not in refused.stderr and refused.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run of six steps in this process: saved at 2, 4 and 6, evaluated at 3 and 6."""
    folder = tmp_path_factory.mktemp("short")
    training.train_and_evaluate(micro.get_config(), folder)
    return folder


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def test_a_run_goes_on_from_the_save_before_a_damaged_one_and_ends_the_same(
    short, tmp_path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(short, run)
    latest, best = run / "checkpoints" / "latest", run / "checkpoints" / "best"
    shutil.rmtree(best)
    harmed = max((latest / "6").rglob("d/*"), key=lambda path: path.stat().st_size)
    flip(harmed)
    training.train_and_evaluate(micro.get_config(), run)
    said = capsys.readouterr().err
    assert f"latest/6 cannot be restored: {harmed.relative_to(latest / '6')} is damaged" in said
    assert "resumed at step 4 of 6" in said
    assert sorted(os.listdir(latest)) == ["4", "6", "6.damaged"]
    assert kill_resume_test.history(run) == kill_resume_test.history(short)
    again, before = kill_resume_test.digests(run), kill_resume_test.digests(short)
    assert again["latest at step 6"] == before["latest at step 6"]


def test_a_run_none_of_whose_saves_can_be_read_does_not_begin_again(short, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(short, run)
    for manifest in (run / "checkpoints").glob("*/*/MANIFEST.json"):
        flip(manifest)
    history = (run / "metrics.jsonl").read_text()
    for _ in range(2):
        with pytest.raises(CheckpointError, match="none of these checkpoints can be restored"):
            training.train_and_evaluate(micro.get_config(), run)
    assert (run / "metrics.jsonl").read_text() == history


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, r"config\.seed: 0 -> 1"),
        ({"batch_size": 8}, r"config\.batch_size: 4 -> 8"),
        ({"data__train": ("shapes:train:16",)}, r"data: .* -> "),
        (
            {"data__classes": ("disk", "box", "triangle", "ring")},
            r"data\.classes=\('disk', 'box'.* not those",
        ),
        ({"model__backbone__widths": (4, 16)}, r"config\.model\.backbone\.widths: .*8.* -> .*16"),
    ],
)
def test_another_experiment_is_refused_with_the_difference(short, changes, named):
    before = {path: path.stat().st_mtime_ns for path in short.rglob("*") if path.name != ".lock"}
    with pytest.raises(ConfigError, match=named) as refused:
        training.train_and_evaluate(micro.get_config(**changes), short)
    assert refused.value.exit_code == 2
    for path, changed in before.items():
        assert path.is_dir() or path.stat().st_mtime_ns == changed


def test_a_log_that_cannot_be_written_does_not_change_the_exit_code():
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            command("main", "--config=configs/nothing.py"), cwd=ROOT, stdout=full, stderr=full
        )
    assert result.returncode == 2
