"""The check of an experiment: all of its sets, whose errors are collected instead of raised."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from tqdm import tqdm

from ssd_jax.data import decode, sources
from ssd_jax.data.annotated_image import AnnotatedImage
from ssd_jax.data.checks.dataset import check_dataset, shared_images
from ssd_jax.data.scan import Scan
from ssd_jax.data.sources import Source
from ssd_jax.errors import DataError

_MAX_LISTED = 5  # images of both sets in a warning


class SetCheck(NamedTuple):
    """The check of one set."""

    name: str  # train, val or test
    summary: str  # of the source; "" where it cannot be read
    report: dict | None  # of `check_dataset`; None for drawn scenes, which have no files


def check_experiment(
    config: ConfigDict, priors: Float[np.ndarray, "A 4"], decode_pixels: bool = False
) -> Iterator[SetCheck]:
    """Check the sets that an experiment names: train, then val and test where there are any.

    Parts that `data.split` makes of the training set are checked with it. Reads annotations and the
    header and end of each image; with `decode_pixels` all pixels too. `priors` are normalized
    corners. Errors of files are in the reports.
    """
    classes: tuple[str, ...] = tuple(config.data.classes)
    train_images: Sequence[AnnotatedImage] = ()
    for name in ("train", "val", "test"):
        if not config.data[name]:
            continue
        scan = Scan(collect_errors=True, orientation=config.data.orientation)
        summary, images = "", ()
        try:
            source = sources.make_source(config.data[name], config, classes, scan)
        except DataError as error:
            scan.errors.append(error)
        else:
            summary, classes, images = source.summary(), source.classes, source.images
            if decode_pixels:
                _decode_all(source, scan)
        if not images and not scan.errors:
            yield SetCheck(name, summary, None)
            continue
        skips_files = config.data.bad == "skip"
        report = check_dataset(images, classes, scan.errors, priors, config.image_size, skips_files)
        if name == "train":
            train_images = images
        elif shared := shared_images(train_images, images):
            names = ", ".join(shared[:_MAX_LISTED])
            report["warnings"].append(f"{len(shared)} images are in the training set too ({names})")
        yield SetCheck(name, summary, report)


def _decode_all(source: Source, scan: Scan) -> None:
    """Decode all pixels as training does, then look for damage that OpenCV fills with gray."""
    _call_each(scan, source.__getitem__, range(len(source)), "decoding")
    files = [image.path for image in source.images if os.path.isfile(image.path)]
    _call_each(scan, decode.check_pixels, files, "checking pixels")


def _call_each(scan: Scan, function: Callable, keys: Sequence, description: str) -> None:
    """Call a function with each key and drop the results: pixels of a whole set are too many."""
    with tqdm(total=len(keys), desc=description, disable=None) as progress:

        def call(key) -> None:
            try:
                function(key)
            finally:
                progress.update()

        scan.map_collecting_errors(call, keys)
