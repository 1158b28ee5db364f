"""Tuning from ground truth to a proposed config and its report."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssd_jax.config.validation import validate
from ssd_jax.prior_tuning.ground_truth import AnnotatedSet, sample_boxes
from ssd_jax.prior_tuning.plot import plot_tuning
from ssd_jax.prior_tuning.prior_grid import make_prior_grid
from ssd_jax.prior_tuning.report import format_tables, measure_fit, summarize_fit
from ssd_jax.prior_tuning.search import PriorFields, get_fields, search_fields, with_fields
from ssd_jax.runtime.files import write_json
from ssd_jax.runtime.progress import log_line


class Tuning(NamedTuple):
    """What a tuning found."""

    config: ConfigDict  # with the proposed priors; the same config where nothing is better
    report: dict  # JSON values: images, before, after, fit
    text: str  # fields before and after, and the tables of the report


def tune_priors(config: ConfigDict, dataset: AnnotatedSet, picture: Path) -> Tuning:
    """Fit sizes and aspect ratios of priors to a set, and measure the fit on held-out images.

    Writes `picture`, a PNG, and the report as JSON beside it. Raises DataError where the set has
    no box, and ConfigError where the config's priors do not fit its model.
    """
    grid = make_prior_grid(config)
    log_line(f"{len(dataset.ground_truth)} images and their training samples …")
    images = sample_boxes(dataset, config)
    box_sets = [
        np.concatenate([i.boxes for i in images if i.augmented == view and not i.held_out])
        for view in sorted({image.augmented for image in images})
    ]
    before = get_fields(config, grid)
    after = search_fields(config, box_sets, grid)
    proposed = config if after == before else with_fields(config, after)
    validate(proposed)
    log_line("counting the positive priors of boxes …")
    configs = (config, proposed)
    fits = tuple(measure_fit(each, images, grid, len(dataset.classes)) for each in configs)
    summary = summarize_fit(images, fits, dataset.classes, grid.image_size)
    report = {
        "images": len(dataset.ground_truth),
        "before": before._asdict(),
        "after": after._asdict(),
        "fit": summary,
    }
    plot_tuning(picture, summary, configs, images, grid)
    write_json(picture.with_suffix(".json"), report)
    text = _format_fields("before", before) + _format_fields("after", after)
    return Tuning(proposed, report, f"{text}\n{format_tables(summary)}")


def _format_fields(when: str, fields: PriorFields) -> str:
    return "".join(
        f"{when:<6}  config.priors.{name} = {_round(value)}\n"
        for name, value in fields._asdict().items()
        if value
    )


def _round(value: float | tuple) -> float | tuple:
    """Two digits of a number, or of each number in nested tuples."""
    return tuple(map(_round, value)) if isinstance(value, tuple) else round(value, 2)
