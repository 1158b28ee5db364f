"""How many priors the truths of PASCAL VOC get, by their size, by both matchers and networks.

    python scripts/report_matching.py --annotations=FILE.tar.gz --output=docs/matching.png

FILE holds the annotations of a VOC devkit, VOC2007/Annotations/*.xml; difficult objects count.
Prints the table of docs/matching.md and writes the picture.
"""

import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from configs import ssd300_vgg16_voc, ssd512_vgg16_voc
from ssd_jax import cli, matching, priors, startup
from ssd_jax.data import voc_xml
from ssd_jax.errors import DataError
from ssd_jax.models import ssd

NETWORKS = {"SSD300": ssd300_vgg16_voc, "SSD512": ssd512_vgg16_voc}
MATCHERS = ("best_prior", "bipartite")
# COCO's limits, of the area in pixels of the network's input.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
SHARES = {"0": (0, 0), "1": (1, 1), "2 to 4": (2, 4), "5 to 9": (5, 9), "10 or more": (10, np.inf)}
_COLORS = ("#d55e00", "#e69f00", "#f0e442", "#56b4e9", "#0072b2")
_ROWS = 16  # images that are matched together


class Annotated(NamedTuple):
    """An image's annotation: its name, and all boxes [N, 4]."""

    name: str
    boxes: np.ndarray


def read(archive: Path, every: int = 1) -> list[Annotated]:
    """Every n-th XML file of an archive, read in memory."""
    try:
        with tarfile.open(archive) as files:
            members = [member for member in files if member.name.endswith(".xml")][::every]
            return [_annotated(files.extractfile(member).read(), member.name) for member in members]
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{archive}: not an archive that can be read ({error})") from error


def _annotated(data: bytes, name: str) -> Annotated:
    annotation = voc_xml.parse_annotation(data, name)
    return Annotated(name, voc_xml.convert(annotation.pixels, annotation.size).boxes)


def prior_boxes(config: ConfigDict) -> np.ndarray:
    """Priors [A, 4] of an experiment."""
    maps = ssd.feature_sizes(config.model, config.image_size)
    return priors.make(config.priors, config.image_size, maps).boxes


def matched(
    images: list[Annotated], boxes: np.ndarray, matcher: str
) -> Iterator[tuple[Annotated, np.ndarray]]:
    """Each image that has a box, and the row of the truth of each prior [A], -1 for none."""

    @jax.jit
    def truths(image_boxes, numbers):
        match = partial(matching.match, priors=jnp.asarray(boxes), matcher=matcher)
        return jax.vmap(match)(image_boxes, numbers).labels - 1

    for least, most in ((0, 3), (3, 12), (12, 64)):  # a compiled program each
        alike = [image for image in images if least < len(image.boxes) <= most]
        for start in range(0, len(alike), _ROWS):
            part = alike[start : start + _ROWS]
            padded = np.zeros((_ROWS, most, 4), np.float32)
            numbers = np.zeros((_ROWS, most), np.int32)
            for row, image in enumerate(part):
                padded[row, : len(image.boxes)] = image.boxes
                numbers[row, : len(image.boxes)] = np.arange(1, len(image.boxes) + 1)
            yield from zip(part, np.asarray(truths(padded, numbers)))


def priors_of_truths(
    images: list[Annotated], config: ConfigDict, matcher: str
) -> tuple[np.ndarray, np.ndarray]:
    """Area in pixels of the input [N], and number of priors [N], of all truths."""
    areas, counts = [], []
    for image, truth in matched(images, prior_boxes(config), matcher):
        sides = (image.boxes[:, 2:] - image.boxes[:, :2]) * config.image_size[::-1]
        areas.append(sides.prod(axis=1))
        counts.append(np.bincount(truth[truth >= 0], minlength=len(sides)))
    return np.concatenate(areas), np.concatenate(counts)


def table(results: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]) -> str:
    """Markdown: a line for each network, size of object and matcher."""
    head = ["network", "objects", "matcher", "truths", "mean", "median", "without a prior"]
    lines = [
        " | ".join(head + list(SHARES)[1:]),
        " | ".join(["---"] * (len(head) + len(SHARES) - 1)),
    ]
    for (network, matcher), (areas, counts) in results.items():
        for size in SIZES:
            some = counts[_within(areas, *SIZES[size])]
            figures = [str(len(some)), f"{some.mean():.2f}", f"{np.median(some):.0f}"]
            figures.append(str(np.count_nonzero(some == 0)))
            shares = [f"{100 * share:.1f} %" for share in _shares(some)[1:]]
            lines.append(" | ".join([network, size, matcher, *figures, *shares]))
    return "\n".join(f"| {line} |" for line in lines)


def _shares(counts: np.ndarray) -> list[float]:
    return [np.mean((least <= counts) & (counts <= most)) for least, most in SHARES.values()]


def _within(areas: np.ndarray, low: float, high: float) -> np.ndarray:
    return (low <= areas) & (areas < high)


def draw(results: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Stacked bars: a panel a network, a bar for each size of object and matcher."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True, layout="constrained")
    for panel, network in zip(panels, NETWORKS):
        bars = [(size, matcher) for size in SIZES for matcher in MATCHERS]
        names = [f"{size}, {matcher}" for size, matcher in bars]
        shares = np.array(
            [
                _shares(counts[_within(areas, *SIZES[size])])
                for size, matcher in bars
                for areas, counts in [results[network, matcher]]
            ]
        )
        left = np.cumsum(shares, axis=1) - shares
        for i, (label, color) in enumerate(zip(SHARES, _COLORS)):
            panel.barh(names, shares[:, i], left=left[:, i], color=color, label=label)
        panel.set(title=f"{network}: part of the truths", xlim=(0, 1))
    panels[0].invert_yaxis()
    panels[1].legend(title="priors", loc="center left", bbox_to_anchor=(1, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """The command."""
    startup.prepare()
    images = read(Path(flags.FLAGS.annotations))
    results = {
        (network, matcher): priors_of_truths(images, module.get_config(), matcher)
        for network, module in NETWORKS.items()
        for matcher in MATCHERS
    }
    print(table(results))
    draw(results, Path(flags.FLAGS.output))


if __name__ == "__main__":
    flags.DEFINE_string("annotations", None, "Archive of XML files.", required=True)
    flags.DEFINE_string("output", None, "The picture, as PNG.", required=True)
    cli.run(main)
