"""`ssd-jax train PHOTOS`: the command line, the choice that is made once, and a tiny training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import micro
import numpy as np
import pytest
from commands import ROOT
from voc_folders import put_voc

from ssd_jax.commands import train
from ssd_jax.config.packaged import load_config
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.runs.folder import RunInfo, run_metadata, write_run_files
from ssd_jax.weights import named


def parse(*arguments):
    return train.parse_request(["ssd-jax train", *map(str, arguments)])


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """An empty cache of weights, and a working folder with photographs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    put_voc(Path("photos"), ["a", "b", "c", "d", "e"])


def test_flags_of_the_folder_are_told_from_those_of_training(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    request = parse("--config.batch_size", "8", "~/cats/images", "--weights=none", "--epochs", "3",
                    "--config.deterministic", "--coordinator", "host:1", "--reading=2")  # fmt: skip
    assert request.photos == Path("/home/me/cats/images") and request.workdir == Path("runs/cats")
    assert (request.weights, request.epochs, request.reading) == ("none", 3, 2)
    assert request.others == ["--config.batch_size=8", "--config.deterministic",
                              "--coordinator=host:1"]  # fmt: skip
    assert parse("photos", "--workdir", "~/run").workdir == Path("/home/me/run")


def test_without_a_folder_the_command_is_that_of_a_config():
    assert parse("--config=quickstart", "--config.steps", "3", "--weights=none") is None
    assert parse() is None


@pytest.mark.parametrize(
    ("folder", "name"),
    [("/a/cats", "cats"), ("/a/cats/images", "cats"), ("/a/cats/data/Images/", "cats"),
     ("/data/images", "images"), ("/", "photographs"), ("/a/x:y", "x_y")],
)  # fmt: skip
def test_the_run_folder_is_named_after_the_photographs(folder, name):
    assert parse(folder).workdir == Path("runs") / name


def test_the_current_folder_has_a_name(tmp_path):
    assert parse(".").workdir == Path("runs/work") and parse(".").photos == tmp_path / "work"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photos", "others"], "one folder of photographs, not photos and others"),
        (["photos", "--config=quickstart"], "a folder .photos. and --config: leave out one"),
        (["photos", "--config", "quickstart"], "a folder .photos. and --config: leave out one"),
        (["photos", "--config.batch_size=0"], "must be an integer of at least 1"),
        (["photos", "--config.batch_size=0"], "must be an integer of at least 1"),
        (["photos", "--mode=eval"], "ssd-jax eval --workdir=RUN"),
        (["photos", "--epochs=0"], "epochs"),
        (["photos", "--epochs=many"], "epochs"),
        (["quickstart"], "no folder quickstart: for the config write --config=quickstart"),
        (["photos", "--workdir=a:b"], "no colon"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        parse(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["nowhere"], DataError, "there is no folder .*nowhere: name the folder that holds"),
        (["photos/a.jpg"], DataError, "a.jpg is a file: name the folder that holds"),
        (["empty"], DataError, "it holds no files; expected photographs with annotations"),
        (["photos", "--weights=yolo"], ConfigError, "no weights yolo"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(arguments, error, words):
    Path("empty").mkdir()
    with pytest.raises(error, match=words):
        train.prepare(parse(*arguments))
    assert not Path("runs").exists()


def begin(*arguments, **changes):
    """A run that was chosen for `arguments`, with the files of a first start."""
    request = parse(*arguments)
    train.prepare(request)
    config = load_config(f"{request.workdir}/config.py")
    config.update_from_flattened_dict(changes)
    info = RunInfo(config, ("cat",), "data", np.zeros((1, 4), np.float32))
    write_run_files(request.workdir, info, run_metadata(config))
    return request


def test_the_choice_is_made_once():
    request = begin("photos")
    content = (request.workdir / "config.py").read_bytes()
    path = named.cached_path("tflite:coco_ssd_mobilenet_v1")  # would be chosen now
    path.parent.mkdir(parents=True)
    path.write_bytes(b"zip")
    put_voc(Path("photos"), ["f"])
    warmup = load_config(f"{request.workdir}/config.py").optim.warmup_steps
    expected = ["--config=runs/work/config.py", f"--config.optim.warmup_steps={warmup}",
                "--workdir=runs/work", "--config.batch_size=8"]  # fmt: skip
    for more in ([], ["--weights=auto"], ["--weights=none"]):
        assert train.prepare(parse("photos", "--config.batch_size=8", *more)) == expected
    assert (request.workdir / "config.py").read_bytes() == content
    longer = train.prepare(parse("../work/photos", "--epochs=7", "--workdir=runs/work"))
    assert longer[0] == "--config=runs/work/config.py:7"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["others", "--workdir=runs/work"], "is a run with other photographs: .*photos, and not"),
        (["photos", "--reading=2"], "is a run with other photographs"),
        (
            ["photos", "--weights=tflite:coco_ssd_mobilenet_v1"],
            "started from random weights, and not",
        ),
    ],
)
def test_a_run_of_something_else_is_refused(arguments, words):
    begin("photos")
    put_voc(Path("others"), ["a", "b"])
    with pytest.raises(ConfigError, match=words):
        train.prepare(parse(*arguments))


def test_files_that_the_command_did_not_write_stay():
    write_run_files(Path("runs/work"), RunInfo(micro.get_config(), ("cat",), "", np.zeros((1, 4))),
                    run_metadata(micro.get_config()))  # fmt: skip
    with pytest.raises(ConfigError, match="a run that was not started with a folder"):
        train.prepare(parse("photos"))
    mine = Path("runs/mine/config.py")
    mine.parent.mkdir()
    mine.write_text("# mine")
    with pytest.raises(ConfigError, match="is there, is not of a run, and says something else"):
        train.prepare(parse("photos", "--workdir=runs/mine"))
    assert mine.read_text() == "# mine"


def ssd_jax(*arguments):
    code = "import sys; sys.argv[0] = 'ssd-jax'; from ssd_jax.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True,
        env=os.environ | {
            "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiled in half the time
        },
    )  # fmt: skip


@pytest.mark.parametrize("makes_run", [False, True])
def test_a_start_that_fails_leaves_only_a_run(monkeypatch, makes_run):
    """As where a flag of training is wrong, which is found after the choice."""

    def fail(command):
        assert Path("runs/work/config.py").exists() and command.__name__ == "ssd_jax.main"
        assert sys.argv[1:] == ["--config=runs/work/config.py", "--workdir=runs/work", "--x=1"]
        if makes_run:
            Path("runs/work/run.json").write_text("{}")
        sys.exit(2)

    monkeypatch.setattr(train.command_line, "run_command", fail)
    for makes_folder in (False, True):
        monkeypatch.setattr(sys, "argv", ["ssd-jax train", "photos", "--x=1"])
        if makes_folder and not makes_run:
            Path("runs/work").mkdir(parents=True)
        with pytest.raises(SystemExit):
            train.run()
        assert Path("runs/work").exists() == (makes_folder or makes_run)
        assert Path("runs/work/config.py").exists() == makes_run
        if makes_run:
            return


def test_a_folder_is_trained_on_and_the_same_command_goes_on():
    tiny = ["--config.image_size=(32, 32)", "--config.model.backbone.levels=2",
            "--config.priors.aspect_ratios=((2.0,), (2.0,))", "--config.priors.sizes=()",
            "--config.batch_size=4"]  # fmt: skip
    first = ssd_jax("train", "photos", "--weights=none", "--epochs=1", *tiny)
    assert first.returncode == 0, first.stderr
    assert "photos     PASCAL VOC: 5 photographs" in first.stderr
    assert "run        runs/work (from step 0 of 1)" in first.stderr
    assert json.loads(Path("runs/work/results.json").read_text())
    assert 'get_config(epochs: str = "1")' in Path("runs/work/config.py").read_text()
    longer = ssd_jax("train", "photos", "--epochs=3", *tiny)
    assert longer.returncode == 0, longer.stderr
    assert "resumed at step 1 of 3" in longer.stderr and "photos     " not in longer.stderr
    assert "mAP@.5" in longer.stdout
