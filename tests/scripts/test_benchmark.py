"""The benchmark alternates measurements, reports missing ones, and updates only the table."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from configs import quickstart
from scripts import benchmark
from scripts.benchmarks import (
    baselines,
    gpu,
    inference,
    pipeline,
    report,
    scaling,
    subject,
    timing,
    topics,
    training,
)
from ssd_jax.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """Time that passes only when a function says so."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def function(self, name, *seconds):
        """A function whose calls last `seconds`, the last of them for ever."""
        left = list(seconds)

        def call():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_two_functions_are_called_in_turn_and_the_first_call_does_not_count():
    clock = Clock()
    mine = clock.function("A", 100.0, 1.0, 2.0, 4.0)
    times = timing.alternate(mine, clock.function("B", 100.0, 3.0, 2.0, 40.0), 3, clock=clock)
    assert clock.calls == ["A", "B"] * 4
    assert times.ours == (1.0, 2.0, 4.0) and times.baseline == (3.0, 2.0, 40.0)
    assert times.ratio == 3.0  # of 3, 1 and 10: round by round, not the ratio of the medians
    assert times.spread == (1.0, 10.0)


def test_short_functions_are_called_until_a_measurement_is_long_enough():
    clock = Clock()
    times = timing.alternate(clock.function("A", 0.25), clock.function("B", 1.0), 2, 1.0, clock)
    assert "".join(clock.calls) == "AB" + "AB" + "AAAAB" * 2
    assert times.ours == (0.25, 0.25) and times.ratio == 4.0


@pytest.mark.parametrize(
    "sign, value, expected",
    [(">=", 0.7, True), (">=", 0.69, False), ("<=", 3.0, True), ("<=", 3.1, False)],
)
def test_a_goal_is_met_or_missed(sign, value, expected):
    bound = 0.7 if sign == ">=" else 3.0
    assert report.is_met(report.Row("step", value, goal=(sign, bound))) is expected


def test_without_goal_or_value_a_goal_is_neither_met_nor_missed():
    assert report.is_met(report.Row("step", 1.0)) is None
    assert report.is_met(report.Row("step", goal=(">=", 1.0), missing="no GPU")) is None


@pytest.mark.parametrize(
    "seconds, text", [(12.34, "12.3 s"), (0.5, "500 ms"), (1e-5, "10 µs"), (1e-8, "0.01 µs")]
)
def test_seconds_as_text(seconds, text):
    assert report.format_seconds(seconds) == text


@pytest.fixture
def written(tmp_path):
    """A document of three rows in a file."""
    rows = [
        report.comparison_row("step", timing.Comparison((2.0, 2.0), (3.0, 5.0)), 0.7, images=4),
        report.Row("waiting", 7.5, "%", ("<=", 5), topic="waiting", noisy=True, note="a|b"),
        report.Row("memory", goal=("<=", 1.0), missing="there is no GPU", noisy=True),
    ]
    path = tmp_path / "benchmark.json"
    document = report.make_document(rows, {"step": "1 x cpu"}, "the command", (1, 2), "abc")
    path.write_text(json.dumps(document))
    return path


def test_a_table_says_all_that_was_measured(written):
    table = report.format_table(report.load_document(written))
    assert "| step | 2 images/s | 1 images/s | 2x (1.5 to 2.5) | ≥ 0.7x | met |" in table
    assert "| waiting | waiting (a/b) |  |  | 7.5% | ≤ 5% | missed, noisy |" in table
    assert "not measured: there is no GPU | ≤ 1x |  |" in table
    assert "; 1 rows are noisy" in table and ". Commit abc; " in table
    assert "`the command`" in table and f"jax {report._package_versions()['jax']}" in table


def test_only_what_lies_between_the_markers_of_a_page_changes(written, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN_MARKER}\nold\n{report.END_MARKER}\nafter\n")
    command = [sys.executable, "-m", "scripts.benchmark", f"--render={written}"]
    for _ in range(2):  # the second time changes nothing
        subprocess.run([*command, f"--output={page}"], cwd=ROOT, check=True)
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
        assert text.count(report.BEGIN_MARKER) == 1
        assert report.format_table(report.load_document(written)) in text


def test_a_page_without_markers_and_a_file_that_is_no_document_are_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{report.END_MARKER} then {report.BEGIN_MARKER}")
    with pytest.raises(DataError, match="needs one line"):
        report.write_page(page, "table")
    with pytest.raises(DataError, match="not the output"):
        report.load_document(page)


def test_the_page_of_the_project_has_its_markers_and_names_every_topic():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert text.index(report.BEGIN_MARKER) < text.index(report.END_MARKER)
    assert not [name for name in topics.TOPICS if f"`{name}`" not in text]


def test_without_pytorch_rows_say_so(monkeypatch):
    monkeypatch.setattr(baselines.importlib.util, "find_spec", lambda name: None)
    rows = [*training.vgg(1, True), *training.mobilenet(1, True)]
    rows += [*inference.end_to_end(1, True), *inference.postprocessing(1, True)]
    assert len(rows) == 6 and all(row.value is None and row.goal for row in rows)
    assert sum(row.missing == "PyTorch is not installed" for row in rows) >= 5


def test_our_half_of_the_input_is_measured_without_pytorch(monkeypatch):
    monkeypatch.setattr(baselines.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("SSD_JAX_DATA", "/nowhere")  # draws its JPEG files
    rows = list(pipeline.throughput(1, True))
    assert [row.missing for row in rows] == ["PyTorch is not installed"] * 2
    assert all("images/s per core" in row.ours and "drawn" in row.what for row in rows)


def test_without_a_gpu_its_rows_say_so():
    rows = list(gpu.all_rows(1, False))
    assert len(rows) == 11 and {row.missing for row in rows} == {"there is no GPU"}


def test_collectives_are_read_from_a_program():
    program = """ENTRY %main (x: f32[3,4]) -> f32[9] {
    %a = f32[3,4]{1,0} all-reduce(%x), to_apply=%sum
    %b = (f32[2]{0}, s32[]) all-reduce-start(%y, %z), to_apply=%sum
    %c = bf16[8]{0} all-gather(%w), dimensions={0}
    ROOT %d = f32[9]{0} add(%a, %all-reduce)
    }"""
    assert scaling.collective_sizes(program) == {"all-reduce": [48, 12], "all-gather": [16]}


def test_a_synthetic_batch_is_what_the_loader_yields():
    config = subject.without_jitter(quickstart.get_config(), 3)
    batch = subject.synthetic_batch(config, 5)
    assert batch["image"].shape == (3, 160, 160, 3) and batch["image"].dtype == np.uint8
    boxes, real = batch["boxes"], batch["labels"] > 0
    assert (real.sum(axis=1) == subject.BOXES_PER_IMAGE).all() and batch["labels"].max() < 5
    assert (boxes[real][:, 2:] > boxes[real][:, :2]).all() and boxes.max() <= 1
    assert (boxes[~real] == 0).all()


def test_detections_that_differ_are_noticed():
    torch = pytest.importorskip("torch", reason="the baseline")
    from ssd_jax.types import Detections

    rng = np.random.default_rng(0)
    mine = Detections(
        rng.random((1, 200, 4)), np.sort(rng.random((1, 200)))[:, ::-1], np.ones((1, 200), int)
    )
    theirs = {
        "boxes": torch.from_numpy(mine.boxes[0] * 300),
        "scores": torch.from_numpy(mine.scores[0].copy()),
        "labels": torch.from_numpy(mine.labels[0].copy()),
    }
    assert inference.compare_detections(mine, [theirs]) == "200 detections, the same"
    theirs["labels"][:3] = 2
    with pytest.raises(ValueError, match="3 of 200"):
        inference.compare_detections(mine, [theirs])


def test_topics_from_the_command_to_json(tmp_path):
    output = tmp_path / "benchmark.json"
    command = [sys.executable, "-m", "scripts.benchmark", "--only=host,gpu", "--quick"]
    result = subprocess.run(
        [*command, f"--output={output}"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(output.read_text())
    assert [row["topic"] for row in document["rows"]] == ["host"] * 2 + ["gpu"] * 5
    assert all(row["value"] > 0 and row["seconds"] > 0 for row in document["rows"][:2])
    assert set(document["rows"][0]) == {*asdict(report.Row("")), "met"}
    assert document["machine"]["cores"] >= 1 and document["versions"]["jax"]
    assert "cpu" in document["machine"]["devices"]["host"]
    assert document["command"].endswith(f"--quick --output={output}")
    assert "| host time of a step by pmap" in result.stdout


def test_an_unknown_topic_is_refused_and_a_failed_one_leaves_a_row(monkeypatch, tmp_path):
    command = [sys.executable, "-m", "scripts.benchmark", "--only=train_vg"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "train_vgg" in result.stderr

    # The child process does not know the topic, and fails.
    monkeypatch.setitem(topics.TOPICS, "broken", topics.Topic("nowhere.nothing"))
    output = tmp_path / "benchmark.json"
    benchmark.measure_topics(["broken"], 1, True, "the command", output)
    assert report.load_document(output)["rows"][0].missing == "failed: KeyError: 'broken'"
