"""The picture of a tuning: prior recall before and after, and boxes with the shapes of priors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from ssd_jax.multibox.priors import prior_shapes
from ssd_jax.prior_tuning.ground_truth import ImageBoxes
from ssd_jax.prior_tuning.object_size import SIZE_RANGES, box_sides
from ssd_jax.prior_tuning.prior_grid import PriorGrid
from ssd_jax.visualize.palette import BLUE, GRAY, label_color, to_hex

_BAR_COLORS = {"before": to_hex(GRAY), "after": to_hex(BLUE)}
_MARKERS = "osD^vP*"  # by level


def plot_tuning(
    path: Path,
    summary: Mapping,
    configs: tuple[ConfigDict, ConfigDict],
    images: Sequence[ImageBoxes],
    grid: PriorGrid,
) -> None:
    """Write a PNG: recall of held-out boxes (of searched ones, where none are held out), and the
    shapes of priors over the sides of all boxes.

    `summary` is what `report.summarize_fit` returns; `configs` are before and after tuning.
    """
    part = "held out" if summary["held out"]["plain"]["all"]["boxes"] else "searched"
    views = summary[part]
    sides = box_sides(np.concatenate([image.boxes for image in images]), grid.image_size)
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2.6))
    panels = left.subplots(len(views), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (view, groups) in zip(panels, views.items()):
        _plot_recall(panel, f"prior recall, {part}, {view}", groups)
    panels[0].legend(loc="upper center", ncols=2, fontsize=8)
    limits = sides.min() / 1.1, max(sides.max(), max(grid.image_size)) * 1.6
    panels = right.subplots(1, 2, sharex=True, sharey=True)
    for panel, title, config in zip(panels, _BAR_COLORS, configs):
        _plot_shapes(panel, sides, config, grid)
        panel.set(title=title, xlabel="width in pixels of the input", xlim=limits, ylim=limits)
    panels[0].set_ylabel("height")
    panels[1].legend(title="level", loc="center left", bbox_to_anchor=(1, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def _plot_recall(panel: Axes, title: str, groups: Mapping) -> None:
    names = [name for name in ("all", *SIZE_RANGES) if groups[name]["boxes"]]
    positions = np.arange(len(names))
    for i, (label, color) in enumerate(_BAR_COLORS.items()):
        values = [groups[name]["recall"][i] for name in names]
        bars = panel.bar(positions + 0.4 * i - 0.2, values, 0.38, color=color, label=label)
        panel.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=7)
    panel.set(title=title, ylim=(0, 1.45), yticks=(0, 0.5, 1))
    panel.set_xticks(positions, names)


def _plot_shapes(
    panel: Axes, sides: Float[np.ndarray, "N 2"], config: ConfigDict, grid: PriorGrid
) -> None:
    """The density of widths and heights of boxes, and a mark for each shape of prior."""
    low, high = np.log10(sides.min(axis=0)), np.log10(sides.max(axis=0))
    extent = [value for pair in zip(low - 0.05, high + 0.05) for value in pair]
    panel.hexbin(
        *sides.T, xscale="log", yscale="log", bins="log", gridsize=45, cmap="Greys", mincnt=1,
        linewidths=0, extent=extent, alpha=0.8,
    )  # fmt: skip
    levels = prior_shapes(config.priors, grid.image_size, len(grid.feature_map_sizes))
    for i, (shapes, (rows, columns)) in enumerate(zip(levels, grid.feature_map_sizes)):
        panel.scatter(
            *np.array(shapes).T, s=45, color=to_hex(label_color(i + 1)), edgecolors="black",
            linewidths=0.7, marker=_MARKERS[i % len(_MARKERS)],
            label=f"{i + 1}: {rows} x {columns}",
        )  # fmt: skip
    panel.set_aspect("equal")
