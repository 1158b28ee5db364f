import json
import math
import subprocess
import sys

import micro
import numpy as np
import pytest

from ssd_jax.errors import ResourceError
from ssd_jax.runs.metrics import MetricsFile, read_metrics
from ssd_jax.runs.results import PRIMARY_METRIC, read_results


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_numbers_are_appended_and_flushed_at_once(tmp_path):
    metrics = MetricsFile(tmp_path, 0)
    metrics.write(1, {"loss": 1.5})
    metrics.write(2, {"loss": math.nan})
    assert lines(tmp_path) == [{"step": 1, "loss": 1.5}, {"step": 2, "loss": None}]
    metrics.close()


def test_resuming_cuts_back_to_the_restored_step_and_mends_a_torn_line(tmp_path):
    metrics = MetricsFile(tmp_path, 0)
    for step in (2, 4, 6):
        metrics.write(step, {"loss": float(step)})
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    metrics = MetricsFile(tmp_path, 4)
    metrics.write(5, {"loss": 0.5})
    metrics.close()
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 5]


HOSTILE = (
    b"\xff\xfe\x00", b"[1, 2]", b"3", b"null", b'"step"', b"{}", b'{"step": "4"}', b'{"step": 1.5}',
    b'{"step": true}', b'{"loss": 1}', b"{" * 5, b"[" * 100_000, b'{"step": 1' + b"0" * 5000 + b"}",
)  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE)
def test_lines_that_say_nothing_are_left_out(tmp_path, line):
    good = b'{"step": 2, "loss": 1.5, "name": "x", "list": [1]}\n'
    (tmp_path / "metrics.jsonl").write_bytes(good + line + b"\n" + good)
    assert read_metrics(tmp_path / "metrics.jsonl") == 2 * [{"step": 2, "loss": 1.5}]
    metrics = MetricsFile(tmp_path, 2)
    assert metrics.has(2, "loss") and not metrics.has(3, "loss")
    metrics.write(3, {"loss": 2.0})
    metrics.close()
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [2, 2, 3]


def test_a_file_that_is_removed_meanwhile_is_begun_again(tmp_path):
    metrics = MetricsFile(tmp_path, 0)
    metrics.write(1, {"loss": 1.5})
    (tmp_path / "metrics.jsonl").unlink()
    assert not metrics.has(1, "loss")
    metrics.write(2, {"loss": 1.0})
    assert lines(tmp_path) == [{"step": 2, "loss": 1.0}]
    metrics.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads a file that has no bytes")
def test_a_file_that_cannot_be_read_is_put_aside(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").symlink_to("/proc/self/mem")
    metrics = MetricsFile(tmp_path, 4)
    metrics.write(5, {"loss": 1.0})
    metrics.close()
    assert lines(tmp_path) == [{"step": 5, "loss": 1.0}]
    assert (tmp_path / "metrics.jsonl.damaged").is_symlink()
    assert "put aside as metrics.jsonl.damaged" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_ends_the_run_with_its_message(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    metrics = MetricsFile(tmp_path, 0)
    with pytest.raises(ResourceError, match=r"cannot write .*metrics\.jsonl"):
        metrics.write(1, {"loss": 1.5})
    metrics.close()


CONFIG = micro.get_config()
RESULTS = {
    "step": 6,
    "data": list(CONFIG.data.test),
    "postprocess": CONFIG.postprocess.to_dict(),
    "scores": {PRIMARY_METRIC: 0.5, "other": None},
}


@pytest.mark.parametrize(
    "content",
    [
        *HOSTILE,
        json.dumps(RESULTS | {"scores": [1]}).encode(),
        json.dumps(RESULTS | {"scores": {PRIMARY_METRIC: "x"}}).encode(),
        json.dumps(RESULTS | {"scores": {PRIMARY_METRIC: [1]}}).encode(),
        json.dumps(RESULTS | {"scores": {"other": 0.5}}).encode(),
        json.dumps(RESULTS | {"scores": {PRIMARY_METRIC: 10**400}}).encode(),
        json.dumps(RESULTS).encode()[:-2],
    ],
)
def test_results_that_cannot_be_read_count_as_absent(tmp_path, content):
    (tmp_path / "results.json").write_bytes(json.dumps(RESULTS).encode())
    scores = read_results(tmp_path, 6, CONFIG)
    assert scores[PRIMARY_METRIC] == 0.5 and math.isnan(scores["other"])
    (tmp_path / "results.json").write_bytes(content)
    assert read_results(tmp_path, 6, CONFIG) == {}


def events(folder):
    """(step, name, value or None) of all that TensorBoard's file holds, by its own framing."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    data, found = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        found += [
            (event.step, value.tag, None if value.HasField("image") else value.simple_value)
            for value in event.summary.value
        ]
    return found


def test_tensorboard_gets_the_same_numbers(tmp_path):
    metrics = MetricsFile(tmp_path, 0)
    metrics.write(3, {"loss": 0.25, "nan": math.nan})
    metrics.image(3, "picture", np.zeros((4, 4, 3), np.uint8))
    metrics.close()
    assert events(tmp_path / "tensorboard") == [(3, "loss", 0.25), (3, "picture", None)]


def test_without_tensorboard_the_run_goes_on_with_one_warning(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("a file")
    metrics = MetricsFile(tmp_path, 0)
    for step in range(1, 50):  # more than any queue holds
        metrics.write(step, {"loss": 0.25})
        metrics.image(step, "picture", np.zeros((4, 4, 3), np.uint8))
    metrics.close()
    assert len(lines(tmp_path)) == 49
    (said,) = capsys.readouterr().err.splitlines()
    assert "cannot write to" in said and "goes on without TensorBoard" in said


def test_a_disk_that_fills_up_under_tensorboard_stops_nothing(tmp_path, capsys):
    """/dev/full takes no byte, as a full disk does."""
    metrics = MetricsFile(tmp_path, 0)
    metrics._board._writer.close()
    metrics._board._writer._writer = open("/dev/full", "wb")  # noqa: SIM115
    for step in range(1, 50):
        metrics.write(step, {"loss": 0.25})
        metrics.image(step, "picture", NOISE)
    metrics.close()
    assert len(lines(tmp_path)) == 49
    (said,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in said


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


def test_what_does_not_log_does_not_pay_for_tensorboard():
    """Its import takes PyTorch's along, which would delay every message of a command."""
    code = "import sys; from ssd_jax import training, predict; print('tensorboardX' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
