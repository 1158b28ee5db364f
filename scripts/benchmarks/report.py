"""The report of a benchmark: rows, JSON, and the table in a page."""

import json
import operator
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from scripts.benchmarks import timing
from ssd_jax.errors import DataError
from ssd_jax.runtime.background import usable_cores

BEGIN_MARKER, END_MARKER = "<!-- benchmark table: begin -->", "<!-- benchmark table: end -->"
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "numpy", "grain", "opencv-python-headless", "torch",
    "torchvision",
)  # fmt: skip
_UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
_COMPARE = {">=": operator.ge, "<=": operator.le}


@dataclass
class Row:
    """One measurement; the process of its topic fills in the last four fields."""

    what: str
    value: float | None = None
    unit: str = "x"  # "x" is a ratio: how many times faster than the baseline
    goal: tuple[str, float] | None = None  # (">=", 0.7)
    spread: tuple[float, float] | None = None  # lowest and highest round
    ours: str = ""
    baseline: str = ""
    note: str = ""
    missing: str = ""  # why there is no value
    topic: str = ""
    load: float = 0.0  # load average before the measurement
    noisy: bool = False  # other programs were running
    seconds: float = 0.0  # of the measurement, compilation included


def comparison_row(
    what: str, times: timing.Comparison, goal: float | None, images: int = 0, note: str = ""
) -> Row:
    """The row of a ratio; with `images`, the number per call, both sides are shown as rates."""
    ours, baseline = (
        f"{images / seconds:.3g} images/s" if images else format_seconds(seconds)
        for seconds in (statistics.median(times.ours), statistics.median(times.baseline))
    )
    bound = None if goal is None else (">=", goal)
    return Row(what, times.ratio, "x", bound, times.spread, ours, baseline, note)


def format_seconds(seconds: float) -> str:
    """Seconds as s, ms or µs, three digits."""
    scaled = ((f"{seconds * scale:.3g} {unit}", seconds * scale) for unit, scale in _UNITS)
    return next((text for text, value in scaled if value >= 1), f"{seconds * 1e6:.3g} µs")


def is_met(row: Row) -> bool | None:
    """Whether the goal is reached; None without a goal or a value."""
    if row.goal is None or row.value is None:
        return None
    sign, bound = row.goal
    return bool(_COMPARE[sign](row.value, bound))


def make_document(
    rows: Sequence[Row],
    devices: dict[str, str],
    command: str,
    load: tuple[float, float],
    commit: str,
) -> dict:
    """A run as JSON values; `load` is the load average before and after it, devices by topic."""
    return {
        "command": command,
        "commit": commit,
        "machine": {
            "cpu": _cpu_name(),
            "cores": usable_cores(),
            "load_before": load[0],
            "load_after": load[1],
            "devices": devices,
        },
        "versions": {"python": platform.python_version(), **_package_versions()},
        "rows": [asdict(row) | {"met": is_met(row)} for row in rows],
    }


def load_document(path: Path) -> dict:
    """A document from its file. Raises DataError for another file."""
    try:
        loaded = json.loads(path.read_text())
        loaded["rows"] = [_row(row) for row in loaded["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not the output of python -m scripts.benchmark ({error})"
        ) from error
    return loaded


def load_topic(path: Path) -> tuple[list[Row], str]:
    """The rows and the devices that the process of a topic wrote."""
    written = json.loads(path.read_text())
    return [_row(row) for row in written["rows"]], written["devices"]


def format_table(loaded: dict) -> str:
    """The Markdown of a document: machine, versions and command, then a line for each row."""
    machine, versions = loaded["machine"], loaded["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    noisy = sum(row.noisy and not row.missing for row in loaded["rows"])
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, load average {machine['load_before']:.1f} "
        f"before and {machine['load_after']:.1f} after"
        + (f"; {noisy} rows are noisy: the machine was busy with other work" if noisy else "")
        + f". Commit {loaded['commit']}; {packages}.",
        "",
        f"`{loaded['command']}`",
        "",
        "| topic | measured | ours | baseline | result | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_format_row, loaded["rows"])])


def write_page(page: Path, text: str, begin: str = BEGIN_MARKER, end: str = END_MARKER) -> None:
    """Replace the text between the markers of a page. Raises DataError where there are none."""
    try:
        before, rest = page.read_text().split(begin)
        after = rest.split(end)[1]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{page}: needs one line {begin} and after it {end}") from error
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _row(values: dict) -> Row:
    fields = {name: value for name, value in values.items() if name != "met"}
    if "other" in fields:  # version 0.1
        fields["baseline"] = fields.pop("other")
    for name in ("goal", "spread"):
        fields[name] = tuple(fields[name]) if fields[name] else None
    return Row(**fields)


def _format_row(row: Row) -> str:
    goal = ""
    if row.goal:
        goal = f"{'≥' if row.goal[0] == '>=' else '≤'} {_format_number(row.goal[1], row.unit)}"
    result = f"not measured: {row.missing}" if row.missing else _format_number(row.value, row.unit)
    if row.spread:
        result += f" ({row.spread[0]:.3g} to {row.spread[1]:.3g})"
    verdict = {True: "met", False: "missed", None: ""}[is_met(row)]
    if row.noisy and not row.missing:
        verdict = f"{verdict}, noisy".lstrip(", ")
    what = f"{row.what} ({row.note})" if row.note else row.what
    cells = (row.topic, what, row.ours, row.baseline, result, goal, verdict)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _format_number(value: float, unit: str) -> str:
    digits = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{digits}{unit}" if unit in ("x", "%") else f"{digits} {unit}".strip()


def _package_versions() -> dict[str, str | None]:
    def version(name):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    return {name: version(name) for name in _PACKAGES}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def current_commit() -> str:
    """The commit of the code; call it before a run, during which the checkout may change."""

    def git(*arguments):
        try:
            command = ["git", "-C", os.path.dirname(__file__), *arguments]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except OSError:  # no git
            return ""

    name = git("rev-parse", "--short=10", "HEAD") or "unknown"
    return f"{name} with changes" if git("status", "--porcelain", "-uno") else name
