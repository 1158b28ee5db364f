"""The recipe for a folder of photographs: all that is chosen, in one value."""

import math
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from ssd_jax.config.packaged import load_config
from ssd_jax.data.sets import open_set
from ssd_jax.data.sources import Source
from ssd_jax.recipe.length import choose_epochs
from ssd_jax.recipe.photographs import Photographs, read_photographs
from ssd_jax.recipe.priors import MIN_RECALL, PriorFit, fit_priors, measure_recall
from ssd_jax.recipe.setting import apply_settings
from ssd_jax.recipe.start import Start, choose_start


class Recipe(NamedTuple):
    """What a folder of photographs is trained with."""

    photographs: Photographs
    start: Start
    priors: PriorFit
    count: int  # of photographs that train
    epochs: int


def choose_recipe(
    folder: Path, weights: str, epochs: int | None = None, reading: int | None = None
) -> Recipe:
    """The recipe for an absolute folder; the same for the same files.

    `weights` is that of `choose_start`. Reads annotations, and the header and end of the images
    that train. Starts no device. Raises an `SsdError` for what cannot be trained.
    """
    photographs = read_photographs(folder, reading)
    start = choose_start(weights)
    config = load_config(start.base)
    apply_settings(config, (*start.settings, *photographs.settings))
    source = open_set(config, "train")
    count = len(source)
    return Recipe(
        photographs, start, _choose_priors(config, source, start), count,
        epochs or choose_epochs(count, start.measured),
    )  # fmt: skip


def _choose_priors(config: ConfigDict, source: Source, start: Start) -> PriorFit:
    if not start.keeps_priors:
        return fit_priors(config, source)
    recall = measure_recall(config, source)
    return PriorFit(recall, recall, ())


def describe_recipe(recipe: Recipe) -> list[tuple[str, str]]:
    """Lines for a terminal, each with its name."""
    photographs, start = recipe.photographs, recipe.start
    lines = [
        ("photos", photographs.reading.summary),
        ("sets", photographs.roles),
        ("start", start.why + ("" if start.is_measured else "; not measured with these weights")),
        ("length", f"{recipe.epochs} epochs of {recipe.count} photographs; --epochs=N changes it"),
    ]
    return lines + ([("priors", text)] if (text := describe_priors(recipe)) else [])


def describe_priors(recipe: Recipe) -> str:
    """How well the priors fit; "" where there is no box."""
    before, after, settings = recipe.priors
    if math.isnan(before):
        return ""
    fit = f"{after:.1%} of the boxes have a prior with IoU ≥ 0.5"
    if settings:
        fit += f", fitted to them; before, {before:.1%} had"
    elif recipe.start.keeps_priors:
        fit += "; they are those of the weights"
    if after >= MIN_RECALL:
        return fit
    if recipe.start.keeps_priors:
        return (
            f"{fit}. The others are hardly found; if they matter, compare with --weights=none in "
            "another --workdir, which fits priors to your boxes"
        )
    return f"{fit}. The others are hardly found; if they are small, cut the photographs into tiles"
