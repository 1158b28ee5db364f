"""Settings of a sweep: runs that differ only in their seed, their scores, and tables of them."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from ssd_jax.runs.results import PRIMARY_METRIC
from ssd_jax.sweeps.prior_recall import PRIOR_RECALL
from ssd_jax.sweeps.run_status import RunStatus

SEED_FIELD = "config.seed"
MAP_COLUMN, RATE_COLUMN, RECALL_COLUMN = "mAP@.5", "images/s", "prior recall"
# Column of AP by object size -> name of the score.
SIZE_COLUMNS = {
    "AP small": "coco/AP_small",
    "AP medium": "coco/AP_medium",
    "AP large": "coco/AP_large",
}
# Column of a table -> name of the score.
COLUMNS = {
    MAP_COLUMN: PRIMARY_METRIC,
    "AP": "coco/AP",
    **SIZE_COLUMNS,
    RECALL_COLUMN: PRIOR_RECALL,
    RATE_COLUMN: "images_per_second",
}


class Summary(NamedTuple):
    """Mean over `n` seeds, and their standard deviation (n - 1); None where it is undefined."""

    mean: float | None
    std: float | None
    n: int


class Setting(NamedTuple):
    """The values of the fields that differ, by short name, and the runs that have them."""

    letter: str  # stands for the label where that is too long
    values: dict[str, Any]
    statuses: tuple[RunStatus, ...]

    @property
    def label(self) -> str:
        """`s_min 0.2, s_max 0.9`."""
        return format_values(self.values)

    def scores(self, column: str) -> list[float]:
        """The score of each run that has it."""
        scores = [status.scores.get(COLUMNS[column], math.nan) for status in self.statuses]
        return [score for score in scores if not math.isnan(score)]

    def summary(self, column: str) -> Summary:
        """Mean and spread over seeds."""
        return summarize(self.scores(column))


def summarize(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and number of values."""
    if not values:
        return Summary(None, None, 0)
    std = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), std, len(values))


def group_by_setting(statuses: Sequence[RunStatus]) -> list[Setting]:
    """The settings in the order of the sweep; one without values where only seeds differ."""
    fields = [name for name in differing_fields(statuses) if name != SEED_FIELD]
    names = short_names(fields)
    groups: dict[str, tuple[dict[str, Any], list[RunStatus]]] = {}
    for status in statuses:
        values = {names[field]: field_value(status, field) for field in fields}
        groups.setdefault(repr(values), (values, []))[1].append(status)
    return [
        Setting(_letter(i), values, tuple(members))
        for i, (values, members) in enumerate(groups.values())
    ]


def differing_fields(statuses: Sequence[RunStatus]) -> list[str]:
    """Full names of the fields that take more than one value, in the order of the sweep."""
    overridden = dict.fromkeys(name for status in statuses for name in status.run.overrides)
    return [
        name
        for name in overridden
        if len({repr(field_value(status, name)) for status in statuses}) > 1
    ]


def field_value(status: RunStatus, field: str) -> Any:
    """The value of a field, by its full name, in a run's config, whether overridden or not."""
    value = status.run.config
    for part in field.removeprefix("config.").split("."):
        value = value[part]
    return value


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """Full name -> its shortest ending that no other name has."""

    def ending(field: str, parts: int) -> str:
        return ".".join(field.split(".")[-parts:])

    names = {}
    for field in fields:
        parts = 1
        while sum(ending(other, parts) == ending(field, parts) for other in fields) > 1:
            parts += 1
        names[field] = ending(field, parts)
    return names


def best_row(settings: Sequence[Setting], column: str) -> int | None:
    """The row with the largest mean; None without one, and for a column that is no score."""
    if column == RATE_COLUMN:
        return None
    means = [setting.summary(column).mean for setting in settings]
    rows = [row for row, mean in enumerate(means) if mean is not None]
    return max(rows, key=lambda row: means[row], default=None)


def format_values(values: dict[str, Any]) -> str:
    """Names and values on one line."""
    return ", ".join(f"{name} {format_value(value)}" for name, value in values.items()) or "all"


def format_value(value: Any) -> str:
    """A value as text: names joined by +, numbers by commas, levels of a table by |."""
    if isinstance(value, tuple):
        is_nested = any(isinstance(part, tuple) for part in value)
        has_names = any(isinstance(part, str) for part in value)
        separator = " | " if is_nested else " + " if has_names else ", "
        return separator.join(map(format_value, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_summary(column: str, summary: Summary) -> str:
    """`0.812 ± 0.004`, with the digits of the column; a dash without a mean."""
    if summary.mean is None:
        return "–"
    digits = 1 if column == RATE_COLUMN else 3
    spread = "" if summary.std is None else f" ± {summary.std:.{digits}f}"
    return f"{summary.mean:.{digits}f}{spread}"


def format_seed_count(setting: Setting) -> str:
    """The number of finished runs, `2`, or `1 of 2`."""
    finished = sum(status.state == "finished" for status in setting.statuses)
    total = len(setting.statuses)
    return str(finished) if finished == total else f"{finished} of {total}"


def to_markdown(settings: Sequence[Setting]) -> str:
    """A row for each setting; the best mean of a column is bold."""
    head = ["", *settings[0].values, *COLUMNS, "seeds"]
    rows = [head, ["---"] * len(head)]
    best = {column: best_row(settings, column) for column in COLUMNS}
    for row, setting in enumerate(settings):
        cells = [format_value(value).replace("|", "/") for value in setting.values.values()]
        for column in COLUMNS:
            cell = format_summary(column, setting.summary(column))
            cells.append(f"**{cell}**" if best[column] == row else cell)
        rows.append([setting.letter, *cells, format_seed_count(setting)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def to_csv(settings: Sequence[Setting]) -> str:
    """A row for each setting, with all digits: mean, std and n of each column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [f"{column} {name}" for column in COLUMNS for name in Summary._fields]
    writer.writerow(["setting", *settings[0].values, *heads])
    for setting in settings:
        numbers = [number for column in COLUMNS for number in setting.summary(column)]
        writer.writerow([setting.letter, *map(format_value, setting.values.values()), *numbers])
    return text.getvalue()


def _letter(i: int) -> str:
    """A … Z, AA …"""
    return (_letter(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)
