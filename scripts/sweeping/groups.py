"""Runs that differ in their seed alone are one setting; its scores, and tables of them."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from scripts.sweeping.record import Record

SEED = "config.seed"
HEADLINE, RATE, RECALL = "mAP@.5", "images/s", "recall"
SIZES = {"AP small": "coco/AP_small", "AP medium": "coco/AP_medium", "AP large": "coco/AP_large"}
COLUMNS = {
    HEADLINE: "voc/AP50_area/mean",
    "AP": "coco/AP",
    **SIZES,
    RECALL: "priors/recall",  # of the priors, on annotations alone
    RATE: "images_per_second",
}


class Statistic(NamedTuple):
    """Mean over `n` seeds, and their standard deviation (n - 1); None where there is none."""

    mean: float | None
    std: float | None
    n: int


class Setting(NamedTuple):
    """The values of the fields that differ, by short name, and the runs that have them.

    Where a label would be too long it goes by its letter, which the tables have too.
    """

    letter: str
    values: dict[str, Any]
    records: tuple[Record, ...]

    @property
    def label(self) -> str:
        """`s_min 0.2, s_max 0.9`."""
        return label(self.values)

    def scores(self, column: str) -> list[float]:
        """One number for each run that is finished and has it."""
        found = [record.scores.get(COLUMNS[column], math.nan) for record in self.records]
        return [value for value in found if not math.isnan(value)]

    def statistic(self, column: str) -> Statistic:
        """Mean and spread over seeds."""
        return statistic(self.scores(column))


def label(values: dict[str, Any]) -> str:
    """Names and values on a line."""
    return ", ".join(f"{name} {text(value)}" for name, value in values.items()) or "all"


def statistic(values: Sequence[float]) -> Statistic:
    """Mean, sample standard deviation and number of values."""
    if not values:
        return Statistic(None, None, 0)
    std = statistics.stdev(values) if len(values) > 1 else None
    return Statistic(statistics.fmean(values), std, len(values))


def settings(records: Sequence[Record]) -> list[Setting]:
    """The settings in the order of the sweep; one without values where only seeds differ."""
    fields = [name for name in differing(records) if name != SEED]
    short = short_names(fields)
    groups: dict[str, tuple[dict[str, Any], list[Record]]] = {}
    for record in records:
        values = {short[field]: value_of(record, field) for field in fields}
        groups.setdefault(repr(values), (values, []))[1].append(record)
    members = enumerate(groups.values())
    return [Setting(_letter(i), values, tuple(runs)) for i, (values, runs) in members]


def differing(records: Sequence[Record]) -> list[str]:
    """Full names of the fields that take more than one value, in the order of the sweep."""
    named = dict.fromkeys(name for record in records for name in record.run.overrides)
    return [name for name in named if len({repr(value_of(each, name)) for each in records}) > 1]


def value_of(record: Record, field: str) -> Any:
    """A field's value in a run's config, whether it was overridden or not."""
    value = record.run.config
    for part in field.removeprefix("config.").split("."):
        value = value[part]
    return value


def short_names(fields: list[str]) -> dict[str, str]:
    """The shortest ends of dotted names that tell them apart."""

    def ending(field: str, parts: int) -> str:
        return ".".join(field.split(".")[-parts:])

    short = {}
    for field in fields:
        parts = 1
        while sum(ending(other, parts) == ending(field, parts) for other in fields) > 1:
            parts += 1
        short[field] = ending(field, parts)
    return short


def text(value: Any) -> str:
    """A value for a person: words joined by +, numbers by commas, tables level by level."""
    if isinstance(value, tuple):
        nested = any(isinstance(part, tuple) for part in value)
        words = any(isinstance(part, str) for part in value)
        mark = " | " if nested else " + " if words else ", "
        return mark.join(map(text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown(column: str, found: Statistic) -> str:
    """`0.812 ± 0.004`, or as many digits as rates deserve; a dash for no number."""
    if found.mean is None:
        return "–"
    digits = 1 if column == RATE else 3
    spread = "" if found.std is None else f" ± {found.std:.{digits}f}"
    return f"{found.mean:.{digits}f}{spread}"


def best(found: Sequence[Setting], column: str) -> int | None:
    """The row whose mean is the largest; none for a column that is no score."""
    if column == RATE:
        return None
    means = [setting.statistic(column).mean for setting in found]
    known = [row for row, mean in enumerate(means) if mean is not None]
    return max(known, key=lambda row: means[row], default=None)


def to_markdown(found: Sequence[Setting]) -> str:
    """A line a setting; the best mean of a column is bold."""
    fields = list(found[0].values)
    rows = [["", *fields, *COLUMNS, "seeds"], ["---"] * (len(fields) + len(COLUMNS) + 2)]
    winners = {column: best(found, column) for column in COLUMNS}
    for row, setting in enumerate(found):
        cells = [text(value).replace("|", "/") for value in setting.values.values()]
        for column in COLUMNS:
            cell = shown(column, setting.statistic(column))
            cells.append(f"**{cell}**" if winners[column] == row else cell)
        rows.append([setting.letter, *cells, seeds(setting)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def seeds(setting: Setting) -> str:
    """Finished runs, and of how many where that is not all."""
    done = sum(record.state == "finished" for record in setting.records)
    return str(done) if done == len(setting.records) else f"{done} of {len(setting.records)}"


def to_csv(found: Sequence[Setting]) -> str:
    """A line a setting, with all digits: mean, std and n of each column."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    kinds = Statistic._fields
    heads = [f"{column} {kind}" for column in COLUMNS for kind in kinds]
    writer.writerow(["setting", *found[0].values, *heads])
    for setting in found:
        numbers = [number for column in COLUMNS for number in setting.statistic(column)]
        writer.writerow([setting.letter, *map(text, setting.values.values()), *numbers])
    return written.getvalue()


def _letter(i: int) -> str:
    """A … Z, AA …"""
    return (_letter(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)
