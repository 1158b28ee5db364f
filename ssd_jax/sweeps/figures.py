"""Figures of a report, as PNG: curves, AP by object size, mAP against a field or prior recall."""

import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssd_jax.sweeps import aggregate
from ssd_jax.sweeps.aggregate import Setting
from ssd_jax.sweeps.run_status import RunStatus
from ssd_jax.visualize.palette import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILION,
    to_hex,
)

_LOSS = "train/loss"
_WIDTH, _DPI = 6.0, 150
_MAX_HALF_LABEL = 40  # characters of a label that fit into one of two columns of a legend
_MAX_MARKED = 20  # points of a curve that get a marker each
# More settings than these take a colormap. Yellow lines are too faint on white.
_COLORS = tuple(map(to_hex, (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE)))


def plot_all(settings: Sequence[Setting], folder: Path) -> Iterator[tuple[str, Path]]:
    """Write each figure for which there are numbers; yields (title, file)."""
    for title, file_name, metric in (
        ("Loss by step", "loss.png", _LOSS),
        ("mAP@.5 by step", "map.png", aggregate.COLUMNS[aggregate.MAP_COLUMN]),
    ):
        if any(_points(status, metric) for each in settings for status in each.statuses):
            yield title, plot_curves(settings, metric, title, folder / file_name)
    if any(setting.scores(column) for setting in settings for column in aggregate.SIZE_COLUMNS):
        yield "AP by object size", plot_sizes(settings, folder / "sizes.png")
    recalls = {setting.summary(aggregate.RECALL_COLUMN).mean for setting in settings} - {None}
    if len(recalls) > 1:
        yield "mAP@.5 against prior recall", plot_prior_recall(settings, folder / "recall.png")
    plotted: set[str] = set()
    for name in settings[0].values:
        if name in plotted:
            continue
        plotted.update(companion_fields(settings, name))
        if lines := lines_by_field(settings, name):
            path = folder / f"field_{name.replace('.', '_')}.png"
            yield f"mAP@.5 against {name}", plot_field(name, lines, path)


def plot_curves(settings: Sequence[Setting], metric: str, title: str, path: Path) -> Path:
    """A metric by step: a thin line for each run, a color for each setting."""
    labels = [_shorten(f"{setting.letter}: {setting.label}") for setting in settings]
    columns = 2 if max(map(len, labels)) <= _MAX_HALF_LABEL else 1
    legend_rows = -(-len(settings) // columns)
    figure, panel = _make_figure(3.6 + 0.18 * legend_rows)
    for color, label, setting in zip(_colors(len(settings)), labels, settings):
        for i, status in enumerate(setting.statuses):
            points = _points(status, metric)
            panel.plot(
                *(zip(*points) if points else ((), ())), color=color,
                marker="o" if len(points) <= _MAX_MARKED else "", markersize=3, linewidth=1.2,
                alpha=0.9, label=None if i else label,
            )  # fmt: skip
    panel.set(xlabel="step", title=title)
    if metric == _LOSS:
        panel.set_yscale("log")
    panel.grid(alpha=0.3, which="both")
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return _save(figure, path)


def plot_sizes(settings: Sequence[Setting], path: Path) -> Path:
    """AP by object size: a row for each setting, a point with its spread for each size."""
    figure, panel = _make_figure(1.5 + 0.3 * len(settings))
    for color, marker, column in zip(_COLORS, "osD", aggregate.SIZE_COLUMNS):
        points = [
            (row, *setting.summary(column)[:2])
            for row, setting in enumerate(settings)
            if setting.scores(column)
        ]
        if points:
            rows, means, stds = zip(*points)
            panel.errorbar(
                means, rows, xerr=[std or 0 for std in stds], fmt=marker, color=color, capsize=3,
                label=column,
            )  # fmt: skip
    panel.set_yticks(range(len(settings)), [setting.letter for setting in settings])
    panel.set(
        xlabel="AP, IoU .5 to .95",
        title="AP by object size",
        ylabel="setting",
        ylim=(len(settings) - 0.5, -0.5),
    )
    panel.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return _save(figure, path)


def companion_fields(settings: Sequence[Setting], name: str) -> set[str]:
    """A field and those that change exactly when it does, as zipped ones do."""

    def count_values(*names: str) -> int:
        return len({repr([setting.values[each] for each in names]) for setting in settings})

    count = count_values(name)
    return {
        other
        for other in settings[0].values
        if count_values(other) == count == count_values(other, name)
    }


def lines_by_field(settings: Sequence[Setting], name: str) -> dict[str, list[Setting]]:
    """Settings that differ in one field (and its companions) only, by their other values.

    A setting that has no partner with another value of the field is left out.
    """
    lines: dict[str, list[Setting]] = {}
    companions = companion_fields(settings, name)
    for setting in settings:
        if setting.scores(aggregate.MAP_COLUMN):
            others = {key: value for key, value in setting.values.items() if key not in companions}
            lines.setdefault(aggregate.format_values(others), []).append(setting)
    return {label: line for label, line in lines.items() if len(line) > 1}


def plot_field(name: str, lines: dict[str, list[Setting]], path: Path) -> Path:
    """mAP@.5 against the values of a field: a point for each seed, a line through their means."""
    values = [setting.values[name] for line in lines.values() for setting in line]
    is_numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
    # Values that are no numbers are in the order of the sweep.
    position = {repr(x): x if is_numeric else i for i, x in enumerate(dict.fromkeys(values))}
    figure, panel = _make_figure(3.4 + 0.2 * len(lines))
    for color, (label, line) in zip(_colors(len(lines)), lines.items()):
        line = sorted(line, key=lambda setting: position[repr(setting.values[name])])
        x = [position[repr(setting.values[name])] for setting in line]
        means = [setting.summary(aggregate.MAP_COLUMN).mean for setting in line]
        panel.plot(x, means, color=color, label=_shorten(label))
        for at, setting in zip(x, line):
            _plot_seeds(panel, at, setting, color)
    panel.set(xlabel=name, ylabel=aggregate.MAP_COLUMN, title=f"mAP@.5 against {name}")
    names = {position[repr(x)]: textwrap.fill(aggregate.format_value(x), 18) for x in values}
    panel.set_xticks(list(names), list(names.values()), fontsize=8)
    panel.margins(x=0.1)
    panel.grid(alpha=0.3)
    if list(lines) != ["all"]:
        figure.legend(loc="outside lower center", fontsize=8, frameon=False)
    return _save(figure, path)


def plot_prior_recall(settings: Sequence[Setting], path: Path) -> Path:
    """mAP@.5 of each setting against its prior recall on the test annotations."""
    settings = [setting for setting in settings if setting.scores(aggregate.RECALL_COLUMN)]
    x = [setting.summary(aggregate.RECALL_COLUMN).mean for setting in settings]
    y = [setting.summary(aggregate.MAP_COLUMN).mean for setting in settings]
    figure, panel = _make_figure(3.6)
    for color, at, mean, setting in zip(_colors(len(settings)), x, y, settings):
        _plot_seeds(panel, at, setting, color)
        panel.annotate(setting.letter, (at, mean), xytext=(5, 0), textcoords="offset points")
    title = "mAP@.5 against prior recall"
    if len(settings) > 2 and len(set(y)) > 1:
        title += f", r = {statistics.correlation(x, y):.2f}"
    panel.set(
        xlabel="prior recall at IoU .5 on test annotations",
        ylabel=aggregate.MAP_COLUMN,
        title=title,
    )
    panel.margins(x=0.1)
    panel.grid(alpha=0.3)
    return _save(figure, path)


def _make_figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _plot_seeds(panel: Axes, x: int | float, setting: Setting, color: str | tuple) -> None:
    """A point at `x` for the mAP@.5 of each seed."""
    scores = setting.scores(aggregate.MAP_COLUMN)
    panel.plot([x] * len(scores), scores, "o", color=color, markersize=4, alpha=0.7)


def _points(status: RunStatus, metric: str) -> list[tuple[int, float]]:
    """(step, value) of a metric."""
    return [(line["step"], line[metric]) for line in status.metrics if line.get(metric) is not None]


def _shorten(label: str) -> str:
    return textwrap.shorten(label, 2 * _MAX_HALF_LABEL, placeholder=" …")


def _colors(count: int) -> list[str | tuple]:
    if count <= len(_COLORS):
        return list(_COLORS[:count])
    return [matplotlib.colormaps["turbo"](0.05 + 0.9 * i / (count - 1)) for i in range(count)]


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=_DPI)
    return path
