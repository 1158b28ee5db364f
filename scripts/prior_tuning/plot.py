"""The picture of a report: how many truths are reached, and truths with the shapes of priors."""

from pathlib import Path

import matplotlib
import numpy as np
from ml_collections import ConfigDict

from scripts import annotated
from scripts.prior_tuning.overlap import Grid
from scripts.prior_tuning.truths import Picture
from ssd_jax import priors

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

# Okabe and Ito, as in the pictures of detections.
_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
_BARS = ("#999999", "#0072b2")
_MARKERS = "osD^vP*"


def draw(
    path: Path, found: dict, configs: tuple[ConfigDict, ConfigDict], pictures: list[Picture],
    table: Grid,
) -> None:  # fmt: skip
    """Write a PNG: parts of the truths that are reached, and both tables over all truths.

    `found` is what `report.figures` makes, `configs` are before and after. Reached are held-out
    truths, where there are any.
    """
    part = "held out" if found["held out"]["plain"]["all"]["truths"] else "searched"
    views = found[part]
    boxes = np.concatenate([picture.boxes for picture in pictures])
    sides = annotated.sides(boxes, table.image_size)
    figure = plt.figure(figsize=(14, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2.6))
    panels = left.subplots(len(views), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (view, groups) in zip(panels, views.items()):
        _bars(panel, f"best IoU ≥ .5, {part}, {view}", groups)
    panels[0].legend(loc="upper center", ncols=2, fontsize=8)
    limits = sides.min() / 1.1, max(sides.max(), max(table.image_size)) * 1.6
    shared = right.subplots(1, 2, sharex=True, sharey=True)
    for panel, title, config in zip(shared, ("before", "after"), configs):
        _shapes(panel, sides, config, table)
        panel.set(title=title, xlabel="width in pixels of the input", xlim=limits, ylim=limits)
    shared[0].set_ylabel("height")
    shared[1].legend(title="level", loc="center left", bbox_to_anchor=(1, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _bars(panel, title: str, groups: dict) -> None:
    names = [name for name in ("all", *annotated.SIZES) if groups[name]["truths"]]
    places = np.arange(len(names))
    for side, label, color in ((-0.2, "before", _BARS[0]), (0.2, "after", _BARS[1])):
        values = [groups[name]["recall"][int(side > 0)] for name in names]
        bars = panel.bar(places + side, values, 0.38, color=color, label=label)
        panel.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=7)
    panel.set(title=title, ylim=(0, 1.45), yticks=(0, 0.5, 1))
    panel.set_xticks(places, names)


def _shapes(panel, sides: np.ndarray, config: ConfigDict, table: Grid) -> None:
    """Density of the truths' sides, and a mark for each shape of prior."""
    low, high = np.log10(sides.min(axis=0)), np.log10(sides.max(axis=0))
    extent = [value for pair in zip(low - 0.05, high + 0.05) for value in pair]
    panel.hexbin(
        *sides.T, xscale="log", yscale="log", bins="log", gridsize=45, cmap="Greys", mincnt=1,
        linewidths=0, extent=extent, alpha=0.8,
    )  # fmt: skip
    cells = priors.cell_sizes(config.priors, table.image_size, len(table.maps))
    for level, shapes in enumerate(cells):
        rows, columns = table.maps[level]
        panel.scatter(
            *np.array(shapes).T, s=45, color=_COLORS[level % 7], edgecolors="black",
            linewidths=0.7, marker=_MARKERS[level % 7], label=f"{level + 1}: {rows} x {columns}",
        )  # fmt: skip
    panel.set_aspect("equal")
