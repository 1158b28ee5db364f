"""A stored analysis of XLA:TPU as text and as tables."""

import copy
from pathlib import Path

import pytest
from commands import ROOT

from ssd_jax.ahead_of_time.page import format_tables
from ssd_jax.ahead_of_time.report import floor_ms, format_report
from ssd_jax.runtime.files import read_json

STORED = read_json(Path(__file__).parent / "analysis.json")
SAVED = sorted((ROOT / "docs" / "accelerators").glob("*.json"))


@pytest.fixture
def analysis():
    return copy.deepcopy(STORED)


def test_the_text_says_that_nothing_was_measured(analysis):
    assert "Nothing ran on a device, and nothing here is a measurement" in format_report(analysis)


def test_the_text_has_every_number(analysis):
    text = format_report(analysis)
    for key in ("topology", "chip", "cycles", "libtpu"):
        value = analysis[key]
        assert (f"{value:,}" if isinstance(value, int) else value) in text
    assert f"{analysis['ms']:g} ms" in text
    assert f"{analysis['images_per_second_per_chip']:,.0f} images/s a chip" in text
    assert f"peak {analysis['peak_mb']:,.0f} of {analysis['hbm_mb']:,.0f} MiB" in text
    for part in analysis["scopes"]:
        assert f"  {part['scope']}\n" in text
    assert len(analysis["operations"]) == 10 and "31 trips" in text
    assert "(all-reduce)" in text and "0 asynchronous" in text


def test_loops_of_unknown_length_are_named(analysis):
    assert "unknown" not in format_report(analysis)
    analysis["loops"][0]["trips"] = None
    text = format_report(analysis)
    assert "unknown trips" in text and "1 loops of unknown length count once" in text


def test_the_text_of_a_search_has_its_tries(analysis):
    analysis["tries"] = [{"per_device": 64, "fits": False, "mb": 18_000.0}]
    assert "64 images a device: 18,000 MiB, does not fit" in format_report(analysis)


def test_copies_in_the_background_add_no_time(analysis):
    analysis["without_estimate"] = [
        {"kind": "sort", "count": 2, "hbm_mb": 8.0, "floor_ms": 0.5},
        {"kind": "copy-start", "count": 9, "hbm_mb": 80.0, "floor_ms": 5.0},
    ]
    assert floor_ms(analysis) == 0.5


def test_the_shares_of_all_parts_are_the_whole(analysis):
    assert sum(part["share"] for part in analysis["scopes"]) == pytest.approx(1, abs=1e-3)
    table = format_tables([analysis]).split("### Parts")[1].split("###")[0]
    cells = [cell.strip() for cell in table.strip().splitlines()[-1].split("|")]
    shares = [float(cell.rstrip("%")) for cell in cells if cell.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.6)


def test_a_row_for_each_analysis_training_first(analysis):
    other = analysis | {"what": "predict", "config": "configs/a.py"}
    table = format_tables([other, analysis]).split("### Time")[1].split("###")[0]
    rows = table.strip().splitlines()[-2:]
    assert rows[0].startswith("| quickstart | v5e:2x2 pmap |")
    assert rows[1].startswith("| a, predict |")


def test_the_page_has_the_tables_of_the_saved_files():
    page = (ROOT / "docs" / "accelerators.md").read_text()
    between = page.split("<!-- estimates: begin -->\n")[1].split("\n<!-- estimates: end -->")[0]
    assert between == format_tables([read_json(path) for path in SAVED])


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_every_saved_file_has_the_same_numbers(path):
    assert set(read_json(path)) == set(STORED)
