"""How many priors the truths of PASCAL VOC get, by their size, by both matchers and networks.

    python scripts/report_matching.py --annotations=FILE.tar.gz --output=docs/matching.png

FILE holds the annotations of a VOC devkit, VOC2007/Annotations/*.xml; difficult objects count.
Prints the table of docs/matching.md and writes the picture.
"""

import sys
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from configs import ssd300_vgg16_voc, ssd512_vgg16_voc
from scripts import annotated
from ssd_jax import cli, matching, priors, startup
from ssd_jax.models import ssd

NETWORKS = {"SSD300": ssd300_vgg16_voc, "SSD512": ssd512_vgg16_voc}
MATCHERS = ("best_prior", "bipartite")
SHARES = {"0": (0, 0), "1": (1, 1), "2 to 4": (2, 4), "5 to 9": (5, 9), "10 or more": (10, np.inf)}
_COLORS = ("#d55e00", "#e69f00", "#f0e442", "#56b4e9", "#0072b2")


def prior_boxes(config: ConfigDict) -> np.ndarray:
    """Priors [A, 4] of an experiment."""
    maps = ssd.feature_sizes(config.model, config.image_size)
    return priors.make(config.priors, config.image_size, maps).boxes


def matcher_of(boxes: np.ndarray, matcher: str) -> annotated.Match:
    """A matcher with priors [A, 4] at its defaults."""
    return partial(matching.match, priors=jnp.asarray(boxes), matcher=matcher)


def priors_of_truths(
    images: list[annotated.Annotated], config: ConfigDict, matcher: str
) -> tuple[np.ndarray, np.ndarray]:
    """Area in pixels of the input [N], and number of priors [N], of all truths."""
    boxes = [image.boxes for image in images]
    counts = annotated.positives(boxes, matcher_of(prior_boxes(config), matcher))
    areas = annotated.sides(np.concatenate(boxes), config.image_size).prod(axis=1)
    return areas, np.concatenate(counts)


def table(results: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]) -> str:
    """Markdown: a line for each network, size of object and matcher."""
    head = ["network", "objects", "matcher", "truths", "mean", "median", "without a prior"]
    lines = [
        " | ".join(head + list(SHARES)[1:]),
        " | ".join(["---"] * (len(head) + len(SHARES) - 1)),
    ]
    for (network, matcher), (areas, counts) in results.items():
        for size in annotated.SIZES:
            some = counts[annotated.within(areas, size)]
            figures = [str(len(some)), f"{some.mean():.2f}", f"{np.median(some):.0f}"]
            figures.append(str(np.count_nonzero(some == 0)))
            shares = [f"{100 * share:.1f} %" for share in _shares(some)[1:]]
            lines.append(" | ".join([network, size, matcher, *figures, *shares]))
    return "\n".join(f"| {line} |" for line in lines)


def _shares(counts: np.ndarray) -> list[float]:
    return [np.mean((least <= counts) & (counts <= most)) for least, most in SHARES.values()]


def draw(results: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Stacked bars: a panel a network, a bar for each size of object and matcher."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True, layout="constrained")
    for panel, network in zip(panels, NETWORKS):
        bars = [(size, matcher) for size in annotated.SIZES for matcher in MATCHERS]
        names = [f"{size}, {matcher}" for size, matcher in bars]
        shares = np.array(
            [
                _shares(counts[annotated.within(areas, size)])
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
    images = annotated.read(Path(flags.FLAGS.annotations))
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
