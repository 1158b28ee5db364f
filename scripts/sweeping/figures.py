"""Pictures of a report, as PNG: curves, AP by object size, and scores against a field's value."""

import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib

from scripts.sweeping import groups
from scripts.sweeping.groups import Setting

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

_LOSS = "train/loss"
_WIDTH, _DPI = 6.0, 150
_HALF = 40  # characters of a label that two columns of a legend have room for
# Of Okabe and Ito, for any kind of color vision; more settings than that take a scale of colors.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def draw_all(found: Sequence[Setting], folder: Path) -> Iterator[tuple[str, Path]]:
    """Draw what there is to draw; yields (what it shows, file)."""
    for title, name, key in (
        ("Loss by step", "loss.png", _LOSS),
        ("mAP@.5 by step", "map.png", groups.COLUMNS[groups.HEADLINE]),
    ):
        if any(_points(record, key) for setting in found for record in setting.records):
            yield title, curves(found, key, title, folder / name)
    if any(setting.scores(column) for setting in found for column in groups.SIZES):
        yield "AP by object size", sizes(found, folder / "sizes.png")
    if len({setting.statistic(groups.RECALL).mean for setting in found} - {None}) > 1:
        yield "mAP@.5 against the recall of priors", reached(found, folder / "recall.png")
    shown: set[str] = set()
    for name in found[0].values:
        if name in shown:
            continue
        shown.update(companions(found, name))
        if lines := field_lines(found, name):
            path = folder / f"field_{name.replace('.', '_')}.png"
            yield f"mAP@.5 against {name}", field(name, lines, path)


def curves(found: Sequence[Setting], key: str, title: str, path: Path) -> Path:
    """A thin line a run, a color a setting."""
    labels = [_shortened(f"{setting.letter}: {setting.label}") for setting in found]
    columns = 2 if max(map(len, labels)) <= _HALF else 1
    rows = -(-len(found) // columns)
    figure, panel = plt.subplots(figsize=(_WIDTH, 3.6 + 0.18 * rows), layout="constrained")
    for color, label, setting in zip(_colors(len(found)), labels, found):
        for i, record in enumerate(setting.records):
            points = _points(record, key)
            few = len(points) <= 20
            panel.plot(
                *(zip(*points) if points else ((), ())), color=color, marker="o" if few else "",
                markersize=3, linewidth=1.2, alpha=0.9, label=None if i else label,
            )  # fmt: skip
    panel.set(xlabel="step", title=title)
    if key == _LOSS:
        panel.set_yscale("log")
    panel.grid(alpha=0.3, which="both")
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return _saved(figure, path)


def sizes(found: Sequence[Setting], path: Path) -> Path:
    """A row a setting, a point a size of object with its spread over seeds."""
    figure, panel = plt.subplots(figsize=(_WIDTH, 1.5 + 0.3 * len(found)), layout="constrained")
    for color, marker, column in zip(_COLORS, "osD", groups.SIZES):
        drawn = [
            (row, *setting.statistic(column)[:2])
            for row, setting in enumerate(found)
            if setting.scores(column)
        ]
        if drawn:
            rows, means, spreads = zip(*drawn)
            panel.errorbar(
                means, rows, xerr=[spread or 0 for spread in spreads], fmt=marker, color=color,
                capsize=3, label=column,
            )  # fmt: skip
    panel.set_yticks(range(len(found)), [setting.letter for setting in found])
    panel.set(
        xlabel="AP, IoU .5 to .95",
        title="AP by object size",
        ylabel="setting",
        ylim=(len(found) - 0.5, -0.5),
    )
    panel.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return _saved(figure, path)


def companions(found: Sequence[Setting], name: str) -> set[str]:
    """A field and those that change whenever it does, and only then, as zipped ones do."""

    def count(*names: str) -> int:
        return len({repr([setting.values[each] for each in names]) for setting in found})

    return {each for each in found[0].values if count(each) == count(name) == count(each, name)}


def field_lines(found: Sequence[Setting], name: str) -> dict[str, list[Setting]]:
    """Settings that differ in one field alone, by what they have in common.

    Whoever has no other value of the field beside it is left out: it shows nothing about it.
    """
    lines: dict[str, list[Setting]] = {}
    alike = companions(found, name)
    for setting in found:
        if setting.scores(groups.HEADLINE):
            others = {key: value for key, value in setting.values.items() if key not in alike}
            lines.setdefault(groups.label(others), []).append(setting)
    return {label: members for label, members in lines.items() if len(members) > 1}


def field(name: str, lines: dict[str, list[Setting]], path: Path) -> Path:
    """mAP@.5 against the values of a field: seeds as points, their mean as a line."""
    values = [setting.values[name] for members in lines.values() for setting in members]
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
    # Names stand in the order of the sweep.
    place = {repr(x): x if numeric else i for i, x in enumerate(dict.fromkeys(values))}
    figure, panel = plt.subplots(figsize=(_WIDTH, 3.4 + 0.2 * len(lines)), layout="constrained")
    for color, (label, members) in zip(_colors(len(lines)), lines.items()):
        members = sorted(members, key=lambda setting: place[repr(setting.values[name])])
        x = [place[repr(setting.values[name])] for setting in members]
        scores = [setting.scores(groups.HEADLINE) for setting in members]
        panel.plot(
            x, [sum(each) / len(each) for each in scores], color=color, label=_shortened(label)
        )
        for at, each in zip(x, scores):
            panel.plot([at] * len(each), each, "o", color=color, markersize=4, alpha=0.7)
    panel.set(xlabel=name, ylabel=groups.HEADLINE, title=f"mAP@.5 against {name}")
    names = {place[repr(x)]: textwrap.fill(groups.text(x), 18) for x in values}
    panel.set_xticks(list(names), list(names.values()), fontsize=8)
    panel.margins(x=0.1)
    panel.grid(alpha=0.3)
    if list(lines) != ["all"]:
        figure.legend(loc="outside lower center", fontsize=8, frameon=False)
    return _saved(figure, path)


def reached(found: Sequence[Setting], path: Path) -> Path:
    """mAP@.5 of each setting against the share of test truths that have a prior of IoU .5."""
    known = [setting for setting in found if setting.scores(groups.RECALL)]
    x = [setting.statistic(groups.RECALL).mean for setting in known]
    y = [setting.statistic(groups.HEADLINE).mean for setting in known]
    figure, panel = plt.subplots(figsize=(_WIDTH, 3.6), layout="constrained")
    for color, at, setting in zip(_colors(len(known)), x, known):
        scores = setting.scores(groups.HEADLINE)
        panel.plot([at] * len(scores), scores, "o", color=color, markersize=4, alpha=0.7)
    for at, score, setting in zip(x, y, known):
        panel.annotate(setting.letter, (at, score), xytext=(5, 0), textcoords="offset points")
    title = "mAP@.5 against the recall of priors at IoU .5"
    if len(known) > 2 and len(set(y)) > 1:
        title += f", r = {statistics.correlation(x, y):.2f}"
    panel.set(
        xlabel="recall of the priors on test annotations", ylabel=groups.HEADLINE, title=title
    )
    panel.margins(x=0.1)
    panel.grid(alpha=0.3)
    return _saved(figure, path)


def _points(record, key: str) -> list[tuple[int, float]]:
    return [(line["step"], line[key]) for line in record.lines if line.get(key) is not None]


def _shortened(label: str) -> str:
    return textwrap.shorten(label, 2 * _HALF, placeholder=" …")


def _colors(count: int) -> list:
    if count <= len(_COLORS):
        return list(_COLORS[:count])
    return [plt.get_cmap("turbo")(0.05 + 0.9 * i / (count - 1)) for i in range(count)]


def _saved(figure, path: Path) -> Path:
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
    return path
