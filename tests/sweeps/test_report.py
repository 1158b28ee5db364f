"""A report of run folders made by hand: states, means, spreads, figures, one page."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import oracles_matching
import pytest

from ssd_jax.config.serialization import to_dict
from ssd_jax.data import sources
from ssd_jax.detector import build_detector
from ssd_jax.errors import DataError
from ssd_jax.sweeps import aggregate, figures, launch, plan
from ssd_jax.sweeps.prior_recall import with_prior_recall
from ssd_jax.sweeps.report import write_report
from ssd_jax.sweeps.run_status import RunStatus, read_status
from ssd_jax.sweeps.sweep_file import read_sweep, write_sweep
from ssd_jax.visualize.images import save_image

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

# mAP@.5 of both seeds for each value of s_min; None is not finished.
SCORES = {0.15: (0.5, 0.7), 0.2: (0.8, None), 0.3: (None, None)}
BODY = """from configs.quickstart import get_config

def get_hyper(hyper):
    return hyper.product([
        hyper.sweep("config.priors.formula.s_min", [0.15, 0.2, 0.3]),
        hyper.sweep("config.seed", [0, 1]),
    ])
"""


def results(run, score, **changes):
    config = to_dict(run.config)
    scores = {"voc/mAP50_area": score, "coco/AP": score / 2, "coco/AP_small": None}
    scores |= {"coco/AP_medium": score / 4, "coco/AP_large": score / 5}
    conditions = {name: config[name] for name in ("postprocess",)}
    return {"step": 1000, "data": config["data"]["test"], "scores": scores, **conditions, **changes}


@pytest.fixture
def folder(tmp_path):
    """Three finished runs, one of them after a failure; a failed, a live and an absent one."""
    path = tmp_path / "sweep.py"
    path.write_text(BODY)
    sweep = plan.expand(str(path), {})
    folder = tmp_path / "runs"
    write_sweep(sweep, folder)
    scores = [score for pair in SCORES.values() for score in pair]
    for i, (run, score) in enumerate(zip(sweep.runs, scores)):
        if i == 5:
            break
        last = 1000 if score else 400
        lines = [{"step": step, "train/loss": 9.0 / step} for step in range(100, last + 1, 100)]
        lines[-1]["images_per_second"] = 100.0 + 10 * i
        workdir = folder / run.id
        workdir.mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        # The last line of a live run may be half written.
        (workdir / "metrics.jsonl").write_text(text if score else f'{text}{{"step": 5')
        picture = np.full((120, 1200, 3), 40 * i, np.uint8)
        save_image(workdir / "pictures" / f"detections_{last:07d}.png", picture)
        if score:
            (workdir / "results.json").write_text(json.dumps(results(run, score)))
    launch.log_path(folder, sweep.runs[0]).write_text("ended with exit code 3 after 0:00:01\n")
    log = "$ python\nno such file <x&y>\n\nended with exit code 3 after 0:00:01\n"
    launch.log_path(folder, sweep.runs[3]).write_text(log)
    launch.log_path(folder, sweep.runs[4]).write_text("$ python\nended with exit code 42 after 1\n")
    return folder


def read_statuses(folder):
    return [read_status(folder, run) for run in read_sweep(folder).runs]


def test_how_far_each_run_is(folder):
    statuses = read_statuses(folder)
    states = ["finished", "finished", "finished", "failed", "unfinished", "not started"]
    assert [status.state for status in statuses] == states
    assert statuses[3].detail == "exit code 3 at step 400 of 1000: no such file <x&y>"
    assert statuses[4].detail == "step 400 of 1000" and len(statuses[4].metrics) == 4
    assert statuses[1].scores["images_per_second"] == 110
    assert math.isnan(statuses[1].scores["coco/AP_small"])


@pytest.mark.parametrize("change", [{"step": 500}, {"data": ["voc:a:b"]}, {"postprocess": {}}])
def test_scores_of_another_step_data_or_thresholds_are_not_the_runs(folder, change):
    run = read_sweep(folder).runs[0]
    assert read_status(folder, run).state == "finished"
    (folder / run.id / "results.json").write_text(json.dumps(results(run, 0.5, **change)))
    assert read_status(folder, run).state != "finished"


def test_means_and_spreads_over_seeds_by_hand(folder):
    first, second, third = aggregate.group_by_setting(read_statuses(folder))
    assert [each.values for each in (first, second, third)] == [{"s_min": x} for x in SCORES]
    assert [each.letter for each in (first, second, third)] == ["A", "B", "C"]
    mean, std, n = first.summary("mAP@.5")
    assert n == 2 and mean == pytest.approx(0.6)
    assert std == pytest.approx(math.sqrt(((0.5 - 0.6) ** 2 + (0.7 - 0.6) ** 2) / 1))
    assert second.summary("AP") == (0.4, None, 1)
    assert first.summary("AP small") == third.summary("mAP@.5") == (None, None, 0)
    assert first.summary("images/s")[0] == 105


def test_tables(folder):
    write_report(folder)
    markdown = (folder / "report" / "table.md").read_text().splitlines()
    assert markdown[0].startswith("|  | s_min | mAP@.5 | AP | AP small | AP medium | AP large |")
    assert markdown[2] == (
        "| A | 0.15 | 0.600 ± 0.141 | 0.300 ± 0.071 | – | 0.150 ± 0.035 | 0.120 ± 0.028 "
        "| 0.864 ± 0.000 | 105.0 ± 7.1 | 2 |"
    )
    assert markdown[3].startswith("| B | 0.2 | **0.800** | **0.400** | – |")
    assert markdown[3].endswith("| 120.0 | 1 of 2 |") and markdown[4].endswith("| – | 0 of 2 |")
    with (folder / "report" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["mAP@.5 std"]) == pytest.approx(0.02**0.5)
    assert rows[0]["s_min"] == "0.15" and rows[2]["mAP@.5 mean"] == "" and rows[2]["AP n"] == "0"


def test_prior_recall_is_the_mean_over_classes(folder):
    first, *_ = with_prior_recall(read_statuses(folder))
    config = first.run.config
    source = sources.make_source(config.data.test, config)
    priors = build_detector(config, 2).priors.boxes
    reached = {}
    for i in range(len(source)):
        gt = source.ground_truth(i)
        for box, label in zip(gt["boxes"], gt["labels"].tolist()):
            best = max(oracles_matching.iou(box[None], priors)[0])
            reached.setdefault(label, []).append(best >= 0.5)
    assert sorted(reached) == [1, 2, 3, 4]
    by_class = [np.mean(each) for each in reached.values()]
    assert first.scores["priors/recall"] == pytest.approx(np.mean(by_class))
    missing = first.run.config.copy_and_resolve_references()
    missing.data.test = ("voc:nowhere:test",)
    (kept,) = with_prior_recall(
        [first._replace(run=first.run._replace(config=missing), scores={"a": 1})]
    )
    assert kept.scores == {"a": 1}


def test_one_page_has_everything(folder):
    html = write_report(folder).read_text()
    assert "6 runs: 3 finished, 1 failed, 1 unfinished, 1 not started" in html
    assert "Scores are of the last weights, on the test set." in html
    assert "no such file &lt;x&amp;y&gt;" in html and "<x&y>" not in html
    sources = re.findall(r'(?:src|href)="?([^">]*)', html)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?:|<script|url\(", html)
    assert html.count("image/jpeg") == 3  # one for each setting; the last is of an unfinished run
    assert "B: s_min 0.2 (seed 0, step 1000)" in html and "C: s_min 0.3 (seed 0, step 400)" in html
    # Loss by step, AP by size, prior recall and the field; no scores by step.
    assert html.count("image/png") == 4
    assert ">0.600 ± 0.141" in html


def test_figures_are_plotted_where_there_are_numbers(folder):
    settings = aggregate.group_by_setting(read_statuses(folder))
    (folder / "out").mkdir()
    plotted = dict(figures.plot_all(settings, folder / "out"))
    assert [path.name for path in plotted.values()] == ["loss.png", "sizes.png", "field_s_min.png"]
    for path in plotted.values():
        image = cv2.imread(str(path))
        assert min(image.shape[:2]) > 300 and len(np.unique(image)) > 10


def test_a_report_before_anything_ran(folder):
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix == ".log":
            path.unlink()
    html = write_report(folder).read_text()
    assert "6 runs: 6 not started" in html and "None yet." in html
    assert (folder / "report" / "table.md").read_text().count("0 of 2") == 3


def test_a_folder_without_a_sweep_has_no_report(tmp_path):
    with pytest.raises(DataError, match="is --workdir a sweep's folder"):
        write_report(tmp_path)


def make_setting(**values):
    """A setting with these values whose one run has a score."""
    run = plan.SweepRun("0", {}, None)
    status = RunStatus(run, "finished", "", {"voc/mAP50_area": 0.5}, [], None)
    return aggregate.Setting("A", values, (status,))


def test_a_line_joins_what_differs_in_one_field_alone():
    settings = [make_setting(a=a, b=b) for a, b in ((1, 1), (2, 1), (1, 2), (2, 2), (3, 3))]
    lines = figures.lines_by_field(settings, "a")
    assert {label: [each.values["a"] for each in line] for label, line in lines.items()} == {
        "b 1": [1, 2], "b 2": [1, 2],
    }  # fmt: skip


def test_zipped_fields_are_shown_as_one():
    settings = [make_setting(maps=maps, ratios=(maps,), c=c) for maps in (1, 2) for c in "xy"]
    assert figures.companion_fields(settings, "maps") == {"maps", "ratios"}
    assert list(figures.lines_by_field(settings, "maps")) == ["c x", "c y"]
    assert list(figures.lines_by_field(settings, "c")) == [
        "maps 1, ratios 1", "maps 2, ratios 2",
    ]  # fmt: skip


def test_values_as_text():
    assert aggregate.format_value(("zoom_out", "flip")) == "zoom_out + flip"
    assert aggregate.format_value(()) == "none"
    assert aggregate.format_value(((2.0,), (2.0, 3.5), ())) == "2 | 2, 3.5 | none"
    assert aggregate.format_value(True) == "True" and aggregate.format_value(0.1 + 0.2) == "0.3"


def test_letters_go_on_after_z():
    assert [aggregate._letter(i) for i in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]


def test_a_sweep_of_seeds_alone_is_one_setting(tmp_path):
    path = tmp_path / "sweep.py"
    path.write_text(BODY.replace("[0.15, 0.2, 0.3]", "[0.2]"))
    write_sweep(plan.expand(str(path), {}), tmp_path / "runs")
    (only,) = aggregate.group_by_setting(read_statuses(tmp_path / "runs"))
    assert only.values == {} and only.label == "all" and len(only.statuses) == 2
    assert Path(write_report(tmp_path / "runs")).exists()


def test_short_names_tell_fields_apart():
    names = aggregate.short_names(["config.priors.clip", "config.postprocess.clip", "config.seed"])
    assert list(names.values()) == ["priors.clip", "postprocess.clip", "seed"]


def test_a_sweep_of_version_0_1_has_a_report(tmp_path):
    """Expected is the table that version wrote, with today's name of the field.

    And the rate of today, the median of the lines.
    """
    shutil.copytree(
        Path(__file__).resolve().parent.parent / "fixtures" / "sweep_0_1", tmp_path / "runs"
    )
    html = write_report(tmp_path / "runs").read_text()
    assert "2 runs: 2 finished" in html
    report = tmp_path / "runs" / "report"
    _, _, *rows = (report / "table.md").read_text().splitlines()
    assert rows == [
        "| A | False | **0.025** | **0.003** | **0.003** | – | – | **0.050** | 287.9 | 1 |",
        "| B | True | 0.012 | 0.001 | 0.001 | – | – | 0.050 | 345.0 | 1 |",
    ]
    plotted = {path.name for path in report.glob("*.png")}
    assert plotted == {"loss.png", "map.png", "sizes.png", "field_floor_sizes.png"}
