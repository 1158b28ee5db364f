"""What was measured: rows, JSON, and the table in a page."""

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

BEGIN, END = "<!-- benchmark table: begin -->", "<!-- benchmark table: end -->"
_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "numpy", "grain", "opencv-python-headless", "torch",
    "torchvision",
)  # fmt: skip
_UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
_COMPARE = {">=": operator.ge, "<=": operator.le}


@dataclass
class Row:
    """One figure. `missing` says why there is none; the child process fills in the last four."""

    what: str
    value: float | None = None
    unit: str = "x"  # "x" is a ratio: how many times faster than the other
    goal: tuple[str, float] | None = None  # (">=", 0.7)
    spread: tuple[float, float] | None = None
    ours: str = ""
    other: str = ""
    note: str = ""
    missing: str = ""
    topic: str = ""
    load: float = 0.0  # before the measurement
    noisy: bool = False
    seconds: float = 0.0  # that the measurement took, compilation included


def compared(
    what: str, times: timing.Comparison, goal: float | None, images: int = 0, note: str = ""
) -> Row:
    """The row of a ratio; with a number of `images` a call the two sides are shown as rates."""
    ours, other = (
        f"{images / seconds:.3g} images/s" if images else duration(seconds)
        for seconds in (statistics.median(times.ours), statistics.median(times.other))
    )
    bound = None if goal is None else (">=", goal)
    return Row(what, times.ratio, "x", bound, times.spread, ours, other, note)


def duration(seconds: float) -> str:
    """Seconds for a person, three digits."""
    scaled = ((f"{seconds * scale:.3g} {unit}", seconds * scale) for unit, scale in _UNITS)
    return next((text for text, value in scaled if value >= 1), f"{seconds * 1e6:.3g} µs")


def met(row: Row) -> bool | None:
    """Whether the goal is reached; None without a goal or a value."""
    if row.goal is None or row.value is None:
        return None
    sign, bound = row.goal
    return bool(_COMPARE[sign](row.value, bound))


def document(
    rows: Sequence[Row],
    devices: dict[str, str],
    command: str,
    load: tuple[float, float],
    commit: str,
) -> dict:
    """All of a run as JSON has it; `load` is the average before and after, devices by topic."""
    return {
        "command": command,
        "commit": commit,
        "machine": {
            "cpu": _cpu(),
            "cores": timing.cores(),
            "load_before": load[0],
            "load_after": load[1],
            "devices": devices,
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "rows": [asdict(row) | {"met": met(row)} for row in rows],
    }


def load(path: Path) -> dict:
    """A document from its file. Raises DataError for one that is not."""
    try:
        loaded = json.loads(path.read_text())
        loaded["rows"] = [_row(row) for row in loaded["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the output of scripts/benchmark.py ({error})") from error
    return loaded


def child_rows(path: Path) -> tuple[list[Row], str]:
    """Rows and devices that the process of a topic wrote."""
    written = json.loads(path.read_text())
    return [_row(row) for row in written["rows"]], written["devices"]


def table(loaded: dict) -> str:
    """The Markdown of a loaded document: where it was made, then a line a row."""
    machine, versions = loaded["machine"], loaded["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    busy = sum(row.noisy and not row.missing for row in loaded["rows"])
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, load average {machine['load_before']:.1f} "
        f"before and {machine['load_after']:.1f} after"
        + (f"; {busy} rows are noisy: the machine was busy with other work" if busy else "")
        + f". Commit {loaded['commit']}; {packages}.",
        "",
        f"`{loaded['command']}`",
        "",
        "| topic | measured | ours | other | result | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_line, loaded["rows"])])


def write_page(page: Path, text: str) -> None:
    """Put `text` between the markers of a page. Raises DataError where there are none."""
    try:
        before, rest = page.read_text().split(BEGIN)
        after = rest.split(END)[1]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{page}: needs one line {BEGIN} and after it {END}") from error
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _row(values: dict) -> Row:
    known = {name: value for name, value in values.items() if name != "met"}
    for name in ("goal", "spread"):
        known[name] = tuple(known[name]) if known[name] else None
    return Row(**known)


def _line(row: Row) -> str:
    goal = ""
    if row.goal:
        goal = f"{'≥' if row.goal[0] == '>=' else '≤'} {_number(row.goal[1], row.unit)}"
    result = f"not measured: {row.missing}" if row.missing else _number(row.value, row.unit)
    if row.spread:
        result += f" ({row.spread[0]:.3g} to {row.spread[1]:.3g})"
    verdict = {True: "met", False: "missed", None: ""}[met(row)]
    if row.noisy and not row.missing:
        verdict = f"{verdict}, noisy".lstrip(", ")
    what = f"{row.what} ({row.note})" if row.note else row.what
    cells = (row.topic, what, row.ours, row.other, result, goal, verdict)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _number(value: float, unit: str) -> str:
    digits = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{digits}{unit}" if unit in ("x", "%") else f"{digits} {unit}".strip()


def _versions() -> dict[str, str | None]:
    def version(name):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    return {name: version(name) for name in _PACKAGES}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """The commit that the code is of; to be asked before a run, since it may move meanwhile."""

    def git(*arguments):
        try:
            command = ["git", "-C", os.path.dirname(__file__), *arguments]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except OSError:  # no git
            return ""

    name = git("rev-parse", "--short=10", "HEAD") or "unknown"
    return f"{name} with changes" if git("status", "--porcelain", "-uno") else name
