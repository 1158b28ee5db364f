"""A report of run folders made by hand: states, means, spreads, pictures, one page."""

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

from scripts.sweeping import figures, groups, launch, plan, recall, record, report
from ssd_jax import config as configs
from ssd_jax import draw, step
from ssd_jax.data import sources
from ssd_jax.errors import DataError

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
    config = configs.to_dict(run.config)
    scores = {"voc/AP50_area/mean": score, "coco/AP": score / 2, "coco/AP_small": None}
    scores |= {"coco/AP_medium": score / 4, "coco/AP_large": score / 5}
    conditions = {name: config[name] for name in ("postprocess",)}
    return {"step": 1000, "data": config["data"]["test"], "scores": scores, **conditions, **changes}


@pytest.fixture
def folder(tmp_path):
    """Three runs that are finished, one after a failure; one failed, one alive, one absent."""
    path = tmp_path / "sweep.py"
    path.write_text(BODY)
    sweep = plan.expand(str(path), {})
    folder = tmp_path / "runs"
    plan.claim(sweep, folder)
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
        draw.save(workdir / "pictures" / f"detections_{last:07d}.png", picture)
        if score:
            (workdir / "results.json").write_text(json.dumps(results(run, score)))
    launch.log_path(folder, sweep.runs[0]).write_text("ended with exit code 3 after 0:00:01\n")
    log = "$ python\nno such file <x&y>\n\nended with exit code 3 after 0:00:01\n"
    launch.log_path(folder, sweep.runs[3]).write_text(log)
    launch.log_path(folder, sweep.runs[4]).write_text("$ python\nended with exit code 42 after 1\n")
    return folder


def records(folder):
    return [record.read(folder, run) for run in plan.load(folder).runs]


def test_how_far_each_run_is(folder):
    found = records(folder)
    states = ["finished", "finished", "finished", "failed", "unfinished", "not started"]
    assert [each.state for each in found] == states
    assert found[3].detail == "exit code 3 at step 400 of 1000: no such file <x&y>"
    assert found[4].detail == "step 400 of 1000" and len(found[4].lines) == 4
    assert found[1].scores["images_per_second"] == 110 and math.isnan(
        found[1].scores["coco/AP_small"]
    )


@pytest.mark.parametrize("change", [{"step": 500}, {"data": ["voc:a:b"]}, {"postprocess": {}}])
def test_scores_of_another_step_data_or_thresholds_are_not_the_runs(folder, change):
    run = plan.load(folder).runs[0]
    assert record.is_finished(folder, run)
    (folder / run.id / "results.json").write_text(json.dumps(results(run, 0.5, **change)))
    assert not record.is_finished(folder, run)


def test_means_and_spreads_over_seeds_by_hand(folder):
    first, second, third = groups.settings(records(folder))
    assert [each.values for each in (first, second, third)] == [{"s_min": x} for x in SCORES]
    assert [each.letter for each in (first, second, third)] == ["A", "B", "C"]
    mean, std, n = first.statistic("mAP@.5")
    assert n == 2 and mean == pytest.approx(0.6)
    assert std == pytest.approx(math.sqrt(((0.5 - 0.6) ** 2 + (0.7 - 0.6) ** 2) / 1))
    assert second.statistic("AP") == (0.4, None, 1)
    assert first.statistic("AP small") == third.statistic("mAP@.5") == (None, None, 0)
    assert first.statistic("images/s")[0] == 105


def test_tables(folder):
    report.write(folder)
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


def test_recall_is_the_mean_over_classes(folder):
    first, *_ = recall.added(records(folder))
    config = first.run.config
    source = sources.make(config.data.test, config)
    priors = step.build(config, 2).priors.boxes
    reached = {}
    for i in range(len(source)):
        truths = source.truths(i)
        for box, label in zip(truths["boxes"], truths["labels"].tolist()):
            best = max(oracles_matching.iou(box[None], priors)[0])
            reached.setdefault(label, []).append(best >= 0.5)
    assert sorted(reached) == [1, 2, 3, 4]
    of_classes = [np.mean(each) for each in reached.values()]
    assert first.scores["priors/recall"] == pytest.approx(np.mean(of_classes))
    missing = first.run.config.copy_and_resolve_references()
    missing.data.test = ("voc:nowhere:test",)
    (kept,) = recall.added(
        [first._replace(run=first.run._replace(config=missing), scores={"a": 1})]
    )
    assert kept.scores == {"a": 1}


def test_one_page_holds_all_of_it(folder):
    html = report.write(folder).read_text()
    assert "6 runs: 3 finished, 1 failed, 1 unfinished, 1 not started" in html
    assert "no such file &lt;x&amp;y&gt;" in html and "<x&y>" not in html
    sources = re.findall(r'(?:src|href)="?([^">]*)', html)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?:|<script|url\(", html)
    assert html.count("image/jpeg") == 3  # a setting each; the last has an unfinished run's
    assert "B: s_min 0.2 (seed 0, step 1000)" in html and "C: s_min 0.3 (seed 0, step 400)" in html
    # Loss by step, AP by size, recall and the field; no score was written on the way.
    assert html.count("image/png") == 4
    assert ">0.600 ± 0.141" in html


def test_pictures_are_drawn_of_what_there_is(folder):
    found = groups.settings(records(folder))
    (folder / "out").mkdir()
    drawn = dict(figures.draw_all(found, folder / "out"))
    assert [path.name for path in drawn.values()] == ["loss.png", "sizes.png", "field_s_min.png"]
    for path in drawn.values():
        image = cv2.imread(str(path))
        assert min(image.shape[:2]) > 300 and len(np.unique(image)) > 10


def test_a_report_before_anything_ran(folder):
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix == ".log":
            path.unlink()
    html = report.write(folder).read_text()
    assert "6 runs: 6 not started" in html and "None yet." in html
    assert (folder / "report" / "table.md").read_text().count("0 of 2") == 3


def test_a_folder_without_a_sweep_has_no_report(tmp_path):
    with pytest.raises(DataError, match="is --workdir a sweep's folder"):
        report.write(tmp_path)


def made(**values):
    """A setting with these values whose one run has a score."""
    run = plan.Run("0", {}, None)
    scores = {"voc/AP50_area/mean": 0.5}
    return groups.Setting("A", values, (record.Record(run, "finished", "", scores, [], None),))


def test_a_line_joins_what_differs_in_one_field_alone():
    found = [made(a=a, b=b) for a, b in ((1, 1), (2, 1), (1, 2), (2, 2), (3, 3))]
    lines = figures.field_lines(found, "a")
    assert {label: [each.values["a"] for each in line] for label, line in lines.items()} == {
        "b 1": [1, 2], "b 2": [1, 2],
    }  # fmt: skip


def test_zipped_fields_are_shown_as_one():
    found = [made(maps=maps, ratios=(maps,), c=c) for maps in (1, 2) for c in "xy"]
    assert figures.companions(found, "maps") == {"maps", "ratios"}
    assert list(figures.field_lines(found, "maps")) == ["c x", "c y"]
    assert list(figures.field_lines(found, "c")) == [
        "maps 1, ratios 1", "maps 2, ratios 2",
    ]  # fmt: skip


def test_values_for_a_person():
    assert groups.text(("zoom_out", "flip")) == "zoom_out + flip" and groups.text(()) == "none"
    assert groups.text(((2.0,), (2.0, 3.5), ())) == "2 | 2, 3.5 | none"
    assert groups.text(True) == "True" and groups.text(0.1 + 0.2) == "0.3"


def test_letters_go_on_after_z():
    assert [groups._letter(i) for i in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]


def test_a_sweep_of_seeds_alone_is_one_setting(tmp_path):
    path = tmp_path / "sweep.py"
    path.write_text(BODY.replace("[0.15, 0.2, 0.3]", "[0.2]"))
    plan.claim(plan.expand(str(path), {}), tmp_path / "runs")
    (only,) = groups.settings(records(tmp_path / "runs"))
    assert only.values == {} and only.label == "all" and len(only.records) == 2
    assert Path(report.write(tmp_path / "runs")).exists()


def test_short_names_tell_fields_apart():
    names = groups.short_names(["config.priors.clip", "config.postprocess.clip", "config.seed"])
    assert list(names.values()) == ["priors.clip", "postprocess.clip", "seed"]
