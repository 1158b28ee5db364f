import json
import os
import subprocess
import sys
from pathlib import Path

import micro
import numpy as np
import pytest

from ssd_jax.errors import CheckpointError, ConfigError, ResourceError
from ssd_jax.runs.folder import (
    RunInfo,
    check_run_folder,
    read_run_info,
    run_metadata,
    with_saved_orientation,
    write_run_files,
)
from ssd_jax.runs.load import load_run
from ssd_jax.runs.lock import lock_run_folder
from ssd_jax.runtime.files import write_json

PRIORS = np.zeros((3, 4), np.float32)


def run(**changes):
    whole = RunInfo(micro.get_config(), ("a", "b"), "f0", PRIORS)
    return whole._replace(**changes)


def test_a_run_describes_itself(tmp_path):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    again = read_run_info(tmp_path)
    assert again.classes == ("a", "b") and again.data == "f0" and again.priors.shape == (3, 4)
    assert again.config.to_dict() == micro.get_config().to_dict()
    assert "jax" in json.loads((tmp_path / "run.json").read_text())["versions"]


def resume(folder, saved=None, **changes):
    """Start again in `folder`, which has a checkpoint with the manifest `saved`."""
    again = run(**changes)
    check_run_folder(folder, again, saved or {})
    write_run_files(folder, again, run_metadata(again.config))


def test_the_same_experiment_may_have_more_steps(tmp_path):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    resume(tmp_path, config=micro.get_config(steps=99))
    assert read_run_info(tmp_path).config.steps == 99


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": {"seed": 5}}, "config.seed: 0 -> 5"),
        ({"config": {"batch_size": 8}}, "config.batch_size: 4 -> 8"),
        ({"config": {"model__backbone__levels": 3}}, "config.model.backbone.levels: 2 -> 3"),
        ({"classes": ("a", "c")}, "classes:"),
        ({"data": "f1"}, "data: f0 -> f1"),
    ],
)
@pytest.mark.parametrize("lost", [(), ("config.json", "run.json", "priors.npy")])
def test_another_experiment_is_refused_with_the_difference(tmp_path, changes, named, lost):
    """Also where only the newest checkpoint still tells which experiment it was."""
    write_run_files(tmp_path, run(), run_metadata(run().config))
    for name in lost:
        (tmp_path / name).unlink()
    before = sorted(tmp_path.iterdir())
    if "config" in changes:
        changes = {"config": micro.get_config(**changes["config"])}
    with pytest.raises(ConfigError, match=named) as refused:
        resume(tmp_path, manifest_of(run()), **changes)
    assert refused.value.exit_code == 2
    assert sorted(tmp_path.iterdir()) == before


def manifest_of(run):
    """What a checkpoint's manifest tells of its run, as it is read from JSON."""
    told = run_metadata(run.config) | {"classes": run.classes, "data": run.data}
    return json.loads(json.dumps(told))


@pytest.mark.parametrize("name", ["run.json", "config.json", "priors.npy"])
@pytest.mark.parametrize(
    "harm", ["cut", "empty", "remove", "flip", "text", "shorter", "longer", "bad sector", "folder"]
)
def test_what_is_lost_or_damaged_is_made_again_on_resume(tmp_path, capsys, name, harm):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    path = tmp_path / name
    whole = path.read_bytes()
    path.unlink()
    if harm == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif harm == "flip":
        path.write_bytes(flipped(whole, 8 * len(whole) // 2))
    elif harm == "text":
        path.write_text("[]")
    elif harm == "empty":
        path.touch()
    elif harm == "shorter":
        path.write_bytes(whole[:-3])
    elif harm == "longer":
        path.write_bytes(whole + b"\0")
    elif harm == "bad sector":  # opens, and its first byte is an input/output error
        path.symlink_to("/proc/self/mem")
    resume_with = manifest_of(run())
    if harm == "folder":
        path.mkdir()
        with pytest.raises(ResourceError, match=f"cannot write .*{name}"):
            resume(tmp_path, resume_with)
        return
    resume(tmp_path, resume_with)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path} ") and line.endswith(": made again")
    assert path.read_bytes() == whole
    read_run_info(tmp_path)


def test_of_an_older_checkpoint_only_the_config_is_made_again(tmp_path):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    (tmp_path / "config.json").unlink()
    resume(tmp_path, run_metadata(run().config))
    (tmp_path / "run.json").unlink()
    with pytest.raises(CheckpointError, match="run.json is absent"):
        resume(tmp_path, run_metadata(run().config))


def test_files_that_are_equal_are_left_alone(tmp_path):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    resume(tmp_path)
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == before


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("name", ["run.json", "config.json", "priors.npy"])
def test_no_flipped_bit_changes_what_a_run_says(tmp_path, capsys, name):
    """It is an error, or only the file's own checksum is lost, which is said."""
    write_run_files(tmp_path, run(), run_metadata(run().config))
    expected, path = read_run_info(tmp_path), tmp_path / name
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        path.write_bytes(flipped(whole, bit))
        try:
            found = read_run_info(tmp_path)
        except CheckpointError as error:
            assert str(path) in str(error) and len(str(error)) < 600
            continue
        np.testing.assert_array_equal(found.priors, expected.priors)
        assert found[1:3] == expected[1:3]
        if f"{name} without checksum" not in capsys.readouterr().err:
            assert found.config.to_dict() == expected.config.to_dict()


HOSTILE = [b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 100_000, b'{"a":' * 300 + b"1" + b"}" * 300,
           b'{"classes": {}, "data": 1}', b'{"classes": [1], "data": "x"}', b'{"crc32": 1}',
           b'{"config_version": "x"}', b'{"config_version": 1, "model": 3, "priors": []}',
           b'{"classes": [], "data": "x"}', b'{"classes": ["a"], "data": "x", "crc32": []}',
           b'{"classes": ["a"], "data": "x", "crc33": "0"}', b"1" * 5000]  # fmt: skip


@pytest.mark.parametrize("name", ["run.json", "config.json", "priors.npy"])
@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_a_file_holds_is_a_message(tmp_path, name, content):
    """Or a config that `load_run` refuses, since a config may have any fields."""
    write_run_files(tmp_path, run(), run_metadata(run().config))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as refused:
        load_run(tmp_path)
    assert str(tmp_path / name) in str(refused.value) and len(str(refused.value)) < 5000


def test_values_that_were_edited_are_damage_until_the_checksum_is_removed(tmp_path, capsys):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    path = tmp_path / "run.json"
    content = json.loads(path.read_text())
    content["classes"].reverse()
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"run\.json is damaged: it does not match"):
        read_run_info(tmp_path)
    del content["crc32"]
    path.write_text(json.dumps(content))
    assert read_run_info(tmp_path).classes == ("b", "a")
    assert "run.json without checksum: damage would not be noticed" in capsys.readouterr().err


def test_a_name_that_no_file_can_have_is_no_run():
    with pytest.raises(CheckpointError, match="is not a run"):
        read_run_info(Path("x" * 300))


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"no run\.json"):
        read_run_info(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "priors.npy"])
def test_an_incomplete_run_says_which_file_is_absent(tmp_path, name):
    write_run_files(tmp_path, run(), run_metadata(run().config))
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is absent. Start the run's training again"):
        read_run_info(tmp_path)


def test_a_live_run_holds_its_folder(tmp_path):
    code = (
        "import sys, pathlib; from ssd_jax.runs.lock import lock_run_folder\n"
        "held = lock_run_folder(pathlib.Path(sys.argv[1])); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    token = (tmp_path / ".lock").read_text()
    with pytest.raises(ResourceError, match="in use by a live run"):
        lock_run_folder(tmp_path)
    assert (tmp_path / ".lock").read_text() == token != ""
    holder.communicate("")
    lock_run_folder(tmp_path).close()  # the lock died with its holder


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="another --workdir"):
        lock_run_folder(tmp_path / "file" / "run")
    with pytest.raises(ResourceError, match="cannot write"):
        write_json(tmp_path / "file" / "x.json", {})


def test_a_file_may_have_the_longest_name_there_is(tmp_path):
    write_json(tmp_path / f"{'x' * 250}.json", {})
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_json_is_replaced_whole(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    write_json(tmp_path / "x.json", {"a": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 2}
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_run_keeps_the_orientation_of_its_pictures(tmp_path):
    today = micro.get_config()
    assert with_saved_orientation(today, tmp_path) is today
    write_run_files(tmp_path, run(), run_metadata(run().config))
    assert with_saved_orientation(today, tmp_path) is today
    older = run(config=micro.get_config(data__orientation="stored"))
    write_run_files(tmp_path, older, run_metadata(older.config))
    assert with_saved_orientation(today, tmp_path).data.orientation == "stored"
    assert today.data.orientation == "viewer"


def test_a_run_of_version_0_1_keeps_stored_pictures():
    fixture = Path(__file__).resolve().parents[1] / "fixtures" / "run_0_1"
    assert with_saved_orientation(micro.get_config(), fixture).data.orientation == "stored"
