"""Several real processes on this machine: the same training, and what happens when one fails."""

import json
import os
import signal
from functools import partial

import covering
import jax
import micro
import numpy as np
import pytest
from launch import Group

from ssd_jax.data import augment, loader, sources
from ssd_jax.detector import build_detector, match_targets
from ssd_jax.errors import ConfigError
from ssd_jax.runs.load import load_run
from ssd_jax.runtime import distributed

MICRO = ["--config=tests/micro.py", "--config.log_every=1"]
ENDLESS = [*MICRO, "--config.batch_size=6", "--config.steps=100000", "--config.save_every=0",
           "--config.eval_every=0", "--config.parallel=jit"]  # fmt: skip


def history(run):
    """Lines of metrics.jsonl."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def arrays(run, which):
    """Everything the network is made of, and the step it is of."""
    _, variables, _, at, _ = load_run(run, which)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables)]), at


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Ten steps of one process with one device."""
    return train(tmp_path_factory.mktemp("alone"), 1, 1, "pmap")


def train(folder, count, devices, runner):
    arguments = [*MICRO, "--config.steps=10", f"--workdir={folder / 'run'}",
                 f"--config.parallel={runner}", "--config.data.val=('shapes:val:5',)",
                 "--config.patience=9"]  # fmt: skip
    with Group(folder, arguments, count, devices) as group:
        assert group.wait() == [0] * count, group.output()
    return folder / "run"


@pytest.mark.parametrize(
    ("count", "devices", "runner"),
    [(1, 4, "jit"), (2, 2, "pmap"), pytest.param(2, 2, "jit", marks=pytest.mark.slow)],
)
def test_training_is_the_same_however_the_batch_is_divided(alone, tmp_path, count, devices, runner):
    """Parameters, images and scores, of the best state, that of step 3, and of the last."""
    divided = train(tmp_path, count, devices, runner)
    for which, expected_step, tolerance in (("best", 3, 1e-5), ("latest", 10, 1e-4)):
        (expected, at), (got, got_at) = arrays(alone, which), arrays(divided, which)
        assert at == got_at == expected_step
        np.testing.assert_allclose(got, expected, atol=tolerance, rtol=0)
    for line, expected in zip(history(divided), history(alone), strict=True):
        assert line.keys() == expected.keys()
        for name in ("train/positives", "train/negatives"):
            assert line.get(name) == expected.get(name)
    results = [json.loads((run / "results.json").read_text()) for run in (alone, divided)]
    assert results[0]["step"] == results[1]["step"] == 3  # the best, on the test set
    assert results[0]["set"] == results[1]["set"] == "test"
    for name, score in results[0]["scores"].items():
        assert results[1]["scores"][name] == pytest.approx(score, abs=1e-4)


def test_a_detector_that_two_processes_start_from_is_scored_and_trains_at_its_rate(alone, tmp_path):
    run = tmp_path / "run"
    arguments = [*MICRO, "--config.steps=2", "--config.eval_every=0", f"--workdir={run}",
                 f"--config.init.source={alone}", "--config.init.lr_multiplier=0.25",
                 "--config.optim.learning_rate=0.04", "--config.optim.warmup_steps=1",
                 "--config.log_every=2"]  # fmt: skip
    with Group(tmp_path, arguments) as group:
        assert group.wait() == [0, 0], group.output()
    (rate,) = [line["train/learning_rate"] for line in history(run) if "train/loss" in line]
    assert rate == pytest.approx(0.01)
    scored = [line for line in history(run) if "voc/mAP50_area" in line]
    assert [line["step"] for line in scored] == [0, 2]
    assert (run / "checkpoints" / "latest" / "2").is_dir()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [12, 13, 15])
def test_each_image_is_evaluated_once_by_one_process(count, size):
    source = sources.make_source((f"shapes:test:{size}",), micro.get_config())
    config, rows = micro.get_config(), 12
    seen = []
    batches = [
        list(loader.evaluation_batches(source, config, rows, (index, count)))
        for index in range(count)
    ]
    assert {len(each) for each in batches} == {-(-size // rows)}  # all join in every one
    for batch in (batch for each in batches for batch in each):
        assert batch["image"].shape == (rows // count, 32, 32, 3)
        seen += batch["image_id"][batch["mask"] > 0].tolist()
    assert sorted(seen) == list(range(size))
    together = np.concatenate([each[-1]["image_id"] for each in batches])
    (whole,) = [list(loader.evaluation_batches(source, config, rows))[-1]]
    np.testing.assert_array_equal(together, whole["image_id"])


@pytest.mark.parametrize("count", [2, 3])
def test_what_several_processes_see_comes_together_in_order(tmp_path, count):
    """Sets that fill the batches, and sets that do not: each image once, with its own truths."""
    with Group(tmp_path, [], count, 2 if count == 3 else 1, module="covering") as group:
        assert group.wait() == [0] * count, group.output()
        said = [group.output(index).splitlines() for index in range(count)]
    said = [[json.loads(line) for line in lines if line.startswith("{")] for lines in said]
    assert [each == said[0] for each in said] == [True] * count  # told to all
    for size, told in zip(covering.SIZES * 2, said[0], strict=True):
        config = covering.config_of(size)
        examples = list(sources.make_source(config.data.test, config))
        means = [augment.resize(e, config.image_size, (0.0,) * 3)["image"].mean() for e in examples]
        np.testing.assert_allclose(np.ravel(told["found"]), np.array(means) / 2, rtol=1e-5)
        assert told["eval/cls_loss"] == pytest.approx(np.mean(means) / 2, rel=1e-5)
        assert told["eval/loc_loss"] == pytest.approx(np.mean(means), rel=1e-5)
        assert told["truths"] == [example["boxes"].tolist() for example in examples]
        assert told["sizes"] == [list(example["size"]) for example in examples]


def test_sigterm_to_all_or_to_one_stops_all_and_any_number_goes_on(tmp_path):
    """Two processes, twice, and then one with two devices: no image is lost or repeated."""
    run, first = tmp_path / "run", 0
    for count, told in ((2, (0, 1)), (2, (1,))):
        with Group(tmp_path, [*ENDLESS, f"--workdir={run}"], count, 1) as group:
            group.wait_for(partial(lambda seen: len(history(run)) > seen + 5, first))
            for index in told:
                os.kill(group.processes[index].pid, signal.SIGTERM)
            assert group.wait() == [42] * count, group.output()
            words = [
                group.output(index).rpartition("stopped at step ")[2] for index in range(count)
            ]
        stopped = {int(each.partition(",")[0]) for each in words}
        assert len(stopped) == 1 and stopped == {arrays(run, "latest")[1]}
        assert min(stopped) > first
        first = min(stopped)
    steps = first + 2
    arguments = [*ENDLESS, f"--workdir={run}", f"--config.steps={steps}"]
    with Group(tmp_path, arguments, 1, 2) as group:
        assert group.wait() == [0], group.output()
        assert f"resumed at step {first}" in group.output()
    told = {line["step"]: line["train/positives"] for line in history(run) if "train/loss" in line}
    assert told == positives(steps)


def positives(steps):
    """What the images of each step come to, in the order of the experiment: step -> count."""
    config = micro.get_config(batch_size=6, steps=100000)
    source = sources.make_source(config.data.train, config)
    detector = build_detector(config, len(source.classes) + 1)
    count = jax.jit(jax.vmap(lambda *truth: (match_targets(detector, *truth).labels > 0).sum()))
    batches = loader.training_batches(source, config, 0, steps)
    return {
        number: int(count(batch["boxes"], batch["labels"]).sum())
        for number, batch in enumerate(batches, 1)
    }


def test_processes_of_different_runs_refuse_to_begin(tmp_path):
    changed = {1: ["--config.seed=3", "--config.optim.momentum=0.5"]}
    with Group(tmp_path, [*MICRO, f"--workdir={tmp_path / 'run'}"], each=changed) as group:
        assert group.wait() == [2, 2], group.output()
        for index in range(2):
            assert "process 1 has another config.seed: 0 -> 3" in group.output(index)
            assert "config.optim.momentum: 0.9 -> 0.5" in group.output(index)
            assert "Traceback" not in group.output(index)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_shared_is_refused(tmp_path):
    own = {index: [f"--workdir={tmp_path / str(index)}"] for index in range(2)}
    with Group(tmp_path, MICRO, each=own) as group:
        assert group.wait() == [6, 6], group.output()
        for index in range(2):
            assert "process 1 does not see" in group.output(index)


def test_one_that_breaks_ends_all_and_says_why_last(tmp_path):
    arguments = [*ENDLESS, f"--workdir={tmp_path / 'run'}"]
    with Group(tmp_path, arguments, 2, 1, module="faulty") as group:
        codes = group.wait()
        assert codes[1] == 1 and codes[0] != 0, group.output()
        last = group.output(1).rstrip().splitlines()[-1]
        assert last == "RuntimeError: the disk of process 1 is gone"


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_that_is_killed_ends_all(tmp_path, victim):
    run = tmp_path / "run"
    with Group(tmp_path, [*ENDLESS, f"--workdir={run}"], 2, 1) as group:
        group.wait_for(lambda: len(history(run)) > 5)
        group.processes[victim].kill()
        assert 0 not in group.wait(), group.output()


@pytest.mark.parametrize(
    "given",
    [("127.0.0.1:1", None, 0), (None, 2, None), ("127.0.0.1:1", 2, 2), (None, None, 1),
     ("127.0.0.1", 2, 0), ("127.0.0.1:abc", 2, 0), (":1", 2, 0)],
)  # fmt: skip
def test_half_of_an_address_is_refused(given):
    with pytest.raises(ConfigError, match="all three or none"):
        distributed.initialize(*given)


def test_alone_nothing_is_joined(monkeypatch):
    distributed.initialize(None, None, None)
    for name, value in (("JOB_ID", 7), ("STEP_NODELIST", "a"), ("NTASKS", 1), ("PROCID", 0),
                        ("LOCALID", 0)):  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    distributed.initialize(None, None, None)  # a step of one task
    monkeypatch.setenv("SLURM_NTASKS", "2")
    distributed.initialize(None, 1, None)  # told not to look
    assert not jax.distributed.is_initialized() and distributed.process_index_and_count() == (0, 1)


def test_slurm_is_detected(monkeypatch):
    for name, value in (("JOB_ID", 7), ("STEP_NODELIST", "gpu[01-02]"), ("NTASKS", 4),
                        ("PROCID", 3), ("LOCALID", 1)):  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: joined.append((a, k)))
    distributed.initialize(None, None, None)
    ((address, count, index, local, _), options) = (joined[0][0], joined[0][1])
    assert address.startswith("gpu01:") and (count, index, local) == (4, 3, [1])
    assert options["coordinator_bind_address"] == address
    monkeypatch.setenv("JAX_LOCAL_DEVICE_IDS", "0,1")  # which JAX reads where it is told none
    distributed.initialize(None, None, None)
    assert joined[1][0][1:4] == (4, 3, None)


def test_what_the_lead_makes_is_itself_when_alone():
    like = {"x": np.float32(0)}
    assert distributed.broadcast_from_main(partial(dict, x=-0.0), like) == {"x": -0.0}
    assert distributed.allgather_json({"a": (1, 2)}) == [{"a": (1, 2)}]
