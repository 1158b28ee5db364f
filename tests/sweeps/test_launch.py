"""Launchers with one-line programs in place of training, and once with training."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ssd_jax.errors import ConfigError, Interrupted, SsdError
from ssd_jax.sweeps import launch, plan, run_status, slurm, sweep_file

ROOT = Path(__file__).resolve().parents[2]
SWEEP = "tests/micro_sweep.py"
# Saves and exits on SIGTERM as a run does, and resumes when it is started again.
_RESUMES = """
import os, pathlib, signal, sys, time
started = pathlib.Path({!r})
if started.exists():
    print("resumed"); sys.exit()
signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(42)))
started.with_suffix(".new").write_text(str(os.getppid()))
started.with_suffix(".new").replace(started)
time.sleep(30)
"""


def job(folder, code, name="a"):
    return launch.Job(name, (sys.executable, "-c", code), folder / "logs" / f"{name}.log")


def wait_until_exists(path):
    while not path.exists():
        time.sleep(0.02)


def test_one_failure_does_not_stop_the_others(tmp_path, capsys):
    jobs = [
        job(tmp_path, f"print('{name}'); raise SystemExit({code})", name)
        for name, code in (("first", 0), ("second", 3), ("third", 42), ("fourth", 1))
    ]
    with pytest.raises(SsdError) as error:
        launch.run_locally(jobs)
    assert error.value.exit_code == 1
    lines = str(error.value).splitlines()
    assert lines[0] == "2 of 4 runs failed:" and len(lines) == 3
    assert f"second: exit code 3, see {jobs[1].log}" in lines[1]
    for each, code in zip(jobs, (0, 3, 42, 1)):
        command, printed, ended = each.log.read_text().splitlines()
        assert command.startswith("$ ") and printed == each.name
        assert re.fullmatch(rf"ended with exit code {code} after \d s", ended)
    printed = capsys.readouterr().err
    assert "[4/4] fourth" in printed and "failed with exit code 3" in printed


def test_an_interrupted_run_is_unfinished_not_failed(tmp_path):
    with pytest.raises(Interrupted, match="1 runs are not finished"):
        launch.run_locally([job(tmp_path, "raise SystemExit(42)"), job(tmp_path, "", "b")])
    launch.run_locally([job(tmp_path, "", "c")])
    launch.run_locally([])


def test_a_run_that_a_signal_kills_has_failed(tmp_path):
    with pytest.raises(SsdError, match="exit code -9"):
        launch.run_locally([job(tmp_path, "import os; os.kill(os.getpid(), 9)")])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_goes_to_the_run_and_ends_the_sweep(tmp_path, number):
    jobs = [job(tmp_path, _RESUMES.format(str(tmp_path / "started"))), job(tmp_path, "", "b")]

    def stop():
        wait_until_exists(tmp_path / "started")
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Interrupted, match="2 runs are not finished: start the same command"):
        launch.run_locally(jobs)
    thread.join()
    assert "saved" in jobs[0].log.read_text() and not jobs[1].log.exists()
    launch.run_locally(jobs)
    assert "resumed\nended with exit code 0" in jobs[0].log.read_text() and jobs[1].log.exists()


def test_a_ctrl_c_at_the_terminal_does_not_reach_a_run_twice(tmp_path):
    """The terminal sends it to the whole session; a run has its own and gets one SIGTERM."""
    other = job(tmp_path, f"import os; assert os.getsid(0) != {os.getsid(0)}")
    launch.run_locally([other])


def test_a_preempted_job_of_an_array_saves_and_is_requeued(tmp_path):
    """By submitit's executor for this machine, and the signal of a preemption."""
    pytest.importorskip("submitit", reason="an optional requirement")
    jobs = [
        job(tmp_path, _RESUMES.format(str(tmp_path / "started"))),
        job(tmp_path, "raise SystemExit(3)", "b"),
    ]
    submitted = slurm.submit(jobs, tmp_path / "slurm", {"timeout_min": 60}, cluster="local")
    wait_until_exists(tmp_path / "started")
    os.kill(int((tmp_path / "started").read_text()), signal.SIGUSR2)
    assert submitted[0].result() is None
    log = jobs[0].log.read_text()
    assert log.index("\nsaved\n") < log.index("\nresumed\n") and log.count("$ ") == 2
    assert "exit code 3, see" in str(submitted[1].exception())


def test_an_interrupted_job_asks_to_be_requeued(tmp_path):
    """SLURM may send only SIGTERM: the run saves, and the job sends itself the warning."""
    warned = []
    old = signal.signal(signal.SIGUSR2, lambda *_: warned.append(True))
    try:
        with pytest.raises(SsdError, match="exit code 42"):
            slurm.RequeuingTask()(job(tmp_path, "raise SystemExit(42)"))
    finally:
        signal.signal(signal.SIGUSR2, old)
    assert warned == [True]


def test_the_warning_of_slurm_does_not_reach_a_run(tmp_path):
    launch.run_locally([job(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGUSR2)")])


def test_parameters_of_slurm_and_a_missing_submitit(tmp_path, monkeypatch):
    assert slurm.parse_parameters(["timeout_min=60", "slurm_partition=gpu", "gpus_per_node=1"]) == {
        "timeout_min": 60, "slurm_partition": "gpu", "gpus_per_node": 1,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        slurm.parse_parameters(["gpu"])
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match="pip install submitit"):
        slurm.submit([job(tmp_path, "")], tmp_path, {})


def test_without_slurm_or_with_an_unknown_parameter_nothing_is_submitted(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="an optional requirement")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="srun"):
        slurm.submit([job(tmp_path, "")], tmp_path, {})
    with pytest.raises(ConfigError, match="gpus_per_nod"):
        slurm.submit([job(tmp_path, "")], tmp_path, {"gpus_per_nod": 1}, cluster="local")


def call(*arguments):
    # The network is so small that optimizing its programs takes longer than running them.
    environment = os.environ | {"PYTHONPATH": "tests", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "scripts.sweep", *map(str, arguments)], cwd=ROOT, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip


def test_a_dry_run_and_printed_commands(tmp_path):
    folder = tmp_path / "runs"
    listed = call(f"--config={SWEEP}", f"--workdir={folder}", "--dry_run")
    assert listed.returncode == 0, listed.stderr
    assert "config.seed=1  not started" in listed.stderr and "2 runs, 2 to do" in listed.stderr
    assert listed.stdout == "" and not folder.exists()
    printed = call(f"--config={SWEEP}", "--config.steps=2", f"--workdir={folder}")
    assert printed.stdout.splitlines() == [
        f"python -m ssd_jax.main --config={SWEEP} --config.steps=2 --config.seed={seed} "
        f"--workdir={folder / plan.run_id({'config.seed': seed})}"
        for seed in (0, 1)
    ]
    other = call(f"--config={SWEEP}", f"--workdir={folder}", "--launcher=local")
    assert other.returncode == 2 and "config.steps: 2 -> 3" in other.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["sweep.json"]


def test_a_sweep_from_the_command_to_its_report(tmp_path):
    command = (f"--config={SWEEP}", f"--workdir={tmp_path}", "--launcher=local")
    first = call(*command)
    assert first.returncode == 0, first.stderr
    sweep = sweep_file.read_sweep(tmp_path)
    for run in sweep.runs:
        status = run_status.read_status(tmp_path, run)
        assert status.state == "finished" and "voc/mAP50_area" in status.scores
        assert [line["step"] for line in status.metrics if "train/loss" in line] == [1, 2, 3]
        written = json.loads((tmp_path / run.id / "config.json").read_text())
        assert written["seed"] == run.overrides["config.seed"]
    again = call(*command)
    assert again.returncode == 0 and "2 runs, 0 to do" in again.stderr
    assert (tmp_path / f"{run.id}.log").read_text().count("$ ") == 1
    reported = call(f"--workdir={tmp_path}", "--report")
    assert reported.returncode == 0, reported.stderr
    page = Path(reported.stdout.strip()).read_text()
    assert "2 runs: 2 finished" in page and "(seed 0, step 3)" in page
