import functools
import json
import math
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import jax.numpy as jnp
import micro
import numpy as np
import pytest

from ssd_jax.errors import CheckpointError, ResourceError
from ssd_jax.runs import manifest
from ssd_jax.runs.checkpoint import Checkpoints
from ssd_jax.runs.folder import run_metadata
from ssd_jax.runs.state_files import StateFiles

ROOT = Path(__file__).resolve().parents[2]


def state(value: float):
    return {"step": jnp.int32(value), "params": {"kernel": jnp.full((3, 2), value, jnp.float32)}}


def test_a_state_comes_back_bit_equal_with_its_dtypes(tmp_path):
    original = {
        "a": jnp.float32(np.random.default_rng(0).normal(size=(5, 3))),
        "b": {"c": jnp.arange(4, dtype=jnp.int32), "empty": {}},
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(original, 7)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 7
        restored = checkpoints.restore("latest", original)
    assert restored["b"]["c"].dtype == jnp.int32
    np.testing.assert_array_equal(restored["a"], original["a"])
    np.testing.assert_array_equal(restored["b"]["c"], original["b"]["c"])


def test_a_folder_may_be_named_from_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for create in (True, False):
        with Checkpoints(Path("runs/mine/checkpoints"), create) as checkpoints:
            if create:
                checkpoints.save(state(3), 3)
                checkpoints.save_if_best(state(3), 3, 0.5)
            assert checkpoints.restore("best", state(0))["step"] == 3


@pytest.mark.parametrize(
    "name",
    [
        "[exp1]/mine",
        "a\\b",
        "a*b?",
        "[",
        "a b",
        "ä",
        "{x}",
        "a#b%20",
        "a:b",
        "a\nb",
        "x?y=1|z",
        "l\udce4uf",
    ],
)
def test_a_folder_may_have_any_name(tmp_path, name):
    """Orbax globs below its path, and TensorStore takes a backslash for a slash and only UTF-8."""
    with Checkpoints(tmp_path / "in" / name) as checkpoints:
        checkpoints.save(state(3), 3)
        checkpoints.save_if_best(state(3), 3, 0.5)
    with Checkpoints(tmp_path / "in" / name, create=False) as checkpoints:
        assert checkpoints.restore("latest", state(0))["params"]["kernel"].sum() == 18
    assert [path.name for path in (tmp_path / "in").iterdir()] == [name.split("/")[0]]


def other_values(read, *args, **options):
    _, found = read(*args, **options)
    return "", {name: tree + 1 for name, tree in found.items()}


def unreadable(read, *args, **options):
    raise ValueError("no such file")


def other_shapes(read, *args, **options):
    return "1 arrays differ: step", None


@pytest.mark.parametrize(
    ("fault", "named"),
    [(other_values, "step has other values"), (unreadable, "no such"), (other_shapes, "differ")],
)
def test_a_first_save_that_cannot_be_read_back_ends_the_run(tmp_path, monkeypatch, fault, named):
    monkeypatch.setattr(StateFiles, "read", functools.partialmethod(fault_of, fault))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(3), 3)
    with pytest.raises(ResourceError, match=f"cannot be read back .*{named}") as refused:
        checkpoints.close()
    assert refused.value.exit_code == 6 and not list((tmp_path / "latest").iterdir())


READ = StateFiles.read


def fault_of(self, fault, *args, **options):
    return fault(functools.partial(READ, self), *args, **options)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_reader_takes_the_next_where_a_live_run_removes_what_it_reads(
    tmp_path, monkeypatch, capsys, moment
):
    """The run saves steps 3 and 4 while 2 is being verified, or when it has been read."""
    original = StateFiles.read
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(state(step), step)
    writer = Checkpoints(tmp_path)

    def read(self, folder, *args, **options):
        found = original(self, folder, *args, **options) if moment == "after" else None
        if folder.parent.name == "2" and self is not writer._files:
            for step in (3, 4):
                writer.save(state(step), step)
            writer.close()
        return found or original(self, folder, *args, **options)

    monkeypatch.setattr(StateFiles, "read", read)
    with Checkpoints(tmp_path, create=False) as reader:
        assert reader.restore("latest", state(0))["step"] == 4
    assert "cannot be restored" not in capsys.readouterr().err


def test_other_things_in_the_folder_are_neither_read_nor_removed(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(1), 1)
        checkpoints.save_if_best(state(1), 1, 0.5)
    strays = [tmp_path / "latest" / name for name in ("7", "²", "notes.tmp.txt", "1e3", "a\nb")]
    for stray in strays:
        stray.write_text("mine")
    folders = ("latest/old tmp", "latest/4_tmp_backup", "latest/0001", "best/٣", "mine/2024.tmp")
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 1 and checkpoints.best_score() == 0.5
        assert checkpoints.restore("latest", state(0))["step"] == 1
    assert all(stray.read_text() == "mine" for stray in strays)
    assert all((tmp_path / name).is_dir() for name in folders)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_stands_where_the_run_writes_gives_way(tmp_path, kind):
    """`N.tmp` and `N.damaged` are the run's names, whatever has them."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Checkpoints(tmp_path / "run") as checkpoints:
        for step in (1, 2):
            checkpoints.save(state(step), step)
    for name in ("2.damaged", "3.tmp"):
        path = tmp_path / "run" / "latest" / name
        if kind == "file":
            path.touch()
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(elsewhere)
    (tmp_path / "run" / "latest" / "2" / "MANIFEST.json").unlink()
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.restore("latest", state(0))["step"] == 1
        checkpoints.save(state(3), 3)
    names = {path.name for path in (tmp_path / "run" / "latest").iterdir()}
    assert names == {"1", "2.damaged", "3"} and elsewhere.is_dir()


def test_a_checkpoint_that_was_moved_and_linked_is_used_and_left_where_it_is(tmp_path):
    run, moved = tmp_path / "run", tmp_path / "other disk" / "1"
    with Checkpoints(run) as checkpoints:
        checkpoints.save(state(1), 1)
    moved.parent.mkdir()
    shutil.move(run / "latest" / "1", moved)
    (run / "latest" / "1").symlink_to(moved)
    with Checkpoints(run) as checkpoints:
        assert checkpoints.restore("latest", state(0))["step"] == 1
        for step in (2, 3):
            checkpoints.save(state(step), step)
    assert {path.name for path in (run / "latest").iterdir()} == {"2", "3"}
    assert manifest.read_verified(moved)["step"] == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads a file that has no bytes")
def test_a_file_that_the_disk_does_not_give_is_damage(tmp_path, capsys):
    """/proc/self/mem opens, and its first byte is an input/output error, as of a bad sector."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(1), 1)
        checkpoints.save_if_best(state(2), 2, 0.5)
    unreadable = tmp_path / "best" / "2" / "state" / "manifest.ocdbt"
    unreadable.unlink()
    unreadable.symlink_to("/proc/self/mem")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_score() == -math.inf
    assert "best/2 is corrupted" in capsys.readouterr().err


def metadata(test_data=None, **changes):
    told = run_metadata(micro.get_config(**changes))
    return told | ({"test_data": test_data} if test_data else {})


SAME = [
    (metadata("a"), metadata("a")),
    (metadata("a"), metadata("a", data__test=("shapes:val:6",))),  # the data was moved
    (metadata(), metadata("a")),  # saved by version 0.1
    ({}, metadata("a")),
    (metadata("a") | {"val_data": "v"}, metadata("b") | {"val_data": "v"}),  # val chooses
]
OTHER = [
    (metadata("a"), metadata("b")),
    (metadata("a"), metadata("a", postprocess__iou_threshold=0.6)),
    (metadata(), metadata("a", data__test=("shapes:val:6",))),
    (metadata("a"), metadata("a") | {"val_data": "v"}),
    (metadata() | {"val_data": "v"}, metadata() | {"val_data": "w"}),  # no test set
]


@pytest.mark.parametrize(("before", "now"), SAME)
def test_scores_of_the_same_test_are_compared(tmp_path, before, now):
    with Checkpoints(tmp_path, metadata=before) as checkpoints:
        checkpoints.save_if_best(state(1), 1, 0.9)
    with Checkpoints(tmp_path, metadata=now) as checkpoints:
        assert not checkpoints.save_if_best(state(2), 2, 0.3)


@pytest.mark.parametrize(("before", "now"), OTHER)
def test_the_best_of_another_test_is_put_aside_and_not_compared(tmp_path, capsys, before, now):
    with Checkpoints(tmp_path, metadata=before) as checkpoints:
        checkpoints.save_if_best(state(1), 1, 0.9)
    with Checkpoints(tmp_path, metadata=now) as checkpoints:
        assert not checkpoints.save_if_best(state(2), 2, math.nan)
        assert checkpoints.restore("best", state(0))["step"] == 1  # until there is another
        assert checkpoints.save_if_best(state(2), 2, 0.3)
        assert not checkpoints.save_if_best(state(3), 3, 0.2)
    said = capsys.readouterr().err
    assert said.count("best/1 (score 0.9000) is of other test data or thresholds") == 1
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["1.other_test", "2"]
    with Checkpoints(tmp_path, metadata=now) as checkpoints:
        assert checkpoints.best_score() == 0.3


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.1, math.nan, 0.3, math.nan, 0.15], 3), ([0.1, 0.5, math.nan, 0.2, math.nan], 2)],
)
def test_the_best_is_never_lost_to_a_nan(tmp_path, scores, best):
    for step, score in enumerate(scores, start=1):
        with Checkpoints(tmp_path) as checkpoints:  # each time by another start of the run
            checkpoints.save(state(step), step)
            checkpoints.save_if_best(state(step), step, score)
            assert checkpoints.best_score() == np.nanmax(scores[:step])
    with Checkpoints(tmp_path, create=False) as checkpoints:
        assert checkpoints.restore("best", state(0))["step"] == best


def test_the_newest_two_are_kept_and_the_best_beside_them(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, score in enumerate([0.1, 0.5, float("nan"), 0.2, float("nan")], start=1):
            checkpoints.save(state(step), step)
            checkpoints.save_if_best(state(step), step, score)
        assert checkpoints.best_score() == 0.5
    with Checkpoints(tmp_path, create=False) as checkpoints:
        assert checkpoints.restore("best", state(0))["step"] == 2
        assert checkpoints.restore("4", state(0))["step"] == 4
        assert checkpoints.latest_step() == 5
        with pytest.raises(CheckpointError, match="no checkpoint '1'"):
            checkpoints.restore("1", state(0))


def test_a_nan_is_never_best_even_as_the_first(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert not checkpoints.save_if_best(state(1), 1, float("nan"))
        assert checkpoints.save_if_best(state(2), 2, 0.0)
        assert not checkpoints.save_if_best(state(3), 3, float("nan"))


def test_of_equal_scores_the_last_is_best_but_the_start_stays_until_it_is_beaten(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        scores = {0: 0.5, 1: 0.5, 2: 0.6, 3: 0.6, 4: 0.5}
        saved = [s for s, score in scores.items() if checkpoints.save_if_best(state(s), s, score)]
    assert saved == [0, 2, 3]


def test_what_is_saved_does_not_follow_later_changes(tmp_path):
    array = np.ones((4, 4), np.float32)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save({"a": array}, 1)
        array[:] = 9
    with Checkpoints(tmp_path) as checkpoints:
        assert (np.asarray(checkpoints.restore("latest", {"a": array})["a"]) == 1).all()


def test_another_shape_is_refused_with_the_place(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(1), 1)
        other = {"step": jnp.int32(0), "params": {"kernel": jnp.zeros((9, 9))}}
        with pytest.raises(
            CheckpointError,
            match=r"latest/1 .*params.kernel is float32\[3, 2\], expected float32\[9, 9\]",
        ):
            checkpoints.restore("latest", other)


def test_words_that_are_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(CheckpointError, match="no checkpoints in"):
            checkpoints.restore("latest", state(0))
        checkpoints.save(state(1), 1)
        with pytest.raises(CheckpointError, match="'newest' in .*; there are: latest/1"):
            checkpoints.restore("newest", state(0))
    with pytest.raises(CheckpointError, match="no checkpoints"):
        Checkpoints(tmp_path / "nowhere", create=False)


def test_before_the_first_evaluation_the_latest_is_the_best(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(3), 3)
        assert checkpoints.restore("best", state(0))["step"] == 3


def test_a_reader_leaves_the_save_of_a_live_run_alone(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(1), 1)
    unfinished = tmp_path / "latest" / "2.tmp"
    unfinished.mkdir()
    with Checkpoints(tmp_path, create=False) as checkpoints:
        assert checkpoints.restore("latest", state(0))["step"] == 1
    assert unfinished.is_dir()
    Checkpoints(tmp_path).close()  # the next start of the run clears it
    assert not unfinished.exists()


@pytest.fixture(scope="module")
def two_saves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_saves")
    with Checkpoints(folder, metadata={"versions": {"jax": "1"}}) as checkpoints:
        checkpoints.save(state(1), 1)
        checkpoints.save(state(2), 2)
    return folder


def flip(path):
    content = bytearray(path.read_bytes())
    position = zlib.crc32(path.name.encode()) % (8 * len(content))
    content[position // 8] ^= 1 << position % 8
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
def test_damage_to_any_file_is_named_and_the_save_before_is_taken(
    two_saves, tmp_path, capsys, harm
):
    files = [path for path in (two_saves / "latest" / "2").rglob("*") if path.is_file()]
    assert len(files) > 8  # Orbax's, and the manifest
    for number, file in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(two_saves, folder)
        harm(folder / file.relative_to(two_saves))
        with Checkpoints(folder, create=False) as reader:
            assert reader.restore("latest", state(0))["step"] == 1
        assert (folder / "latest" / "2").is_dir()  # a reader changes nothing
        said = capsys.readouterr().err
        assert f"{folder}/latest/2 cannot be restored: " in said
        assert str(file.relative_to(two_saves / "latest" / "2")) in said


def test_a_damaged_save_is_put_aside_and_its_step_saved_again(two_saves, tmp_path):
    shutil.copytree(two_saves, tmp_path, dirs_exist_ok=True)
    (tmp_path / "latest" / "2" / "MANIFEST.json").unlink()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 2
        assert checkpoints.restore("latest", state(0))["step"] == 1
        assert (tmp_path / "latest" / "2.damaged").is_dir() and checkpoints.latest_step() == 1
        checkpoints.save(state(2), 2)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore("latest", state(0))["step"] == 2


def test_a_save_that_has_no_manifest_can_be_given_one(two_saves, tmp_path):
    shutil.copytree(two_saves, tmp_path, dirs_exist_ok=True)
    manifest.write(tmp_path / "latest" / "2", {"step": 2})  # over one that is there, too
    assert manifest.read_verified(tmp_path / "latest" / "2")["step"] == 2
    with Checkpoints(tmp_path, create=False) as checkpoints:
        assert checkpoints.restore("latest", state(0))["step"] == 2


def test_where_none_can_be_restored_all_stay_and_each_is_named(two_saves, tmp_path):
    shutil.copytree(two_saves, tmp_path, dirs_exist_ok=True)
    for step in "12":
        flip(tmp_path / "latest" / step / "state" / "_METADATA")
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):  # the second start too knows that there was something
        with Checkpoints(tmp_path) as checkpoints:
            assert checkpoints.latest_step() == 2
            with pytest.raises(CheckpointError, match=r"latest/2, .*latest/1\n.*Copy") as failure:
                checkpoints.restore("latest", state(0))
    assert failure.value.exit_code == 4
    assert sorted(tmp_path.rglob("*")) == before
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="latest/1"):
        checkpoints.restore("1", state(0))


def test_where_all_of_the_latest_are_damaged_the_best_is_resumed_from(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_if_best(state(1), 1, 0.5)
        checkpoints.save(state(2), 2)
    truncate(tmp_path / "latest" / "2" / "MANIFEST.json")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore("latest", state(0))["step"] == 1


def test_a_damaged_best_gives_way_to_the_next(tmp_path, capsys):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(1), 1)
        checkpoints.save_if_best(state(1), 1, 0.5)
    truncate(tmp_path / "best" / "1" / "state" / "_METADATA")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_score() == -math.inf
        assert "best/1 is corrupted: state/_METADATA is damaged" in capsys.readouterr().err
        assert checkpoints.restore("best", state(0))["step"] == 1  # the latest
        assert checkpoints.save_if_best(state(2), 2, 0.1)
        assert checkpoints.restore("best", state(0))["step"] == 2


def test_a_manifest_tells_what_the_save_was_made_with(tmp_path):
    about = run_metadata(micro.get_config(seed=5))
    with Checkpoints(tmp_path, metadata=about) as checkpoints:
        checkpoints.save_if_best(state(3), 3, 0.25)
    place = tmp_path / "best" / "3"
    told = json.loads((place / "MANIFEST.json").read_text())
    assert (told["step"], told["score"], told["config"]["seed"]) == (3, 0.25, 5)
    assert {"jax", "orbax-checkpoint", "python", "commit", "command"} <= told["versions"].keys()
    if (ROOT / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", told["versions"]["commit"])
    for name, (size, checksum) in told["files"].items():
        content = (place / name).read_bytes()
        assert size == len(content) and int(checksum, 16) == zlib.crc32(content)
    assert len(told["files"]) == sum(path.is_file() for path in place.rglob("*")) - 1


FULL_DISK = """
import pathlib, resource, signal, sys, time
import numpy as np
from ssd_jax.runtime import command_line
from ssd_jax.runs.checkpoint import Checkpoints

def main():
    with Checkpoints(pathlib.Path(sys.argv[1])) as checkpoints:
        checkpoints.save({"a": np.ones(9, np.float32)}, 1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        noise = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
        checkpoints.save({"a": noise}, 2)
        for _ in range(1000):  # steps go on; the first after the failure ends the run
            checkpoints.check()
            time.sleep(0.1)

command_line.exit_on_error(main)
"""


def test_a_full_disk_ends_with_its_exit_code_and_keeps_the_last_save(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 6, result.stderr
    assert "cannot write checkpoints" in result.stderr
    assert "older checkpoints are intact" in result.stderr
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 1
        like = {"a": np.ones(9, np.float32)}
        np.testing.assert_array_equal(checkpoints.restore("latest", like)["a"], like["a"])
