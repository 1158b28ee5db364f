"""Draw a run: `python scripts/plot_run.py --workdir=RUN --output=docs/NAME`.

Writes NAME_curves.png (loss and mAP by step, from metrics.jsonl) and NAME.jpg (the newest picture
of held-out detections).
"""

import json
import sys
from pathlib import Path

import cv2
import matplotlib
from absl import flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ssd_jax import cli
from ssd_jax.errors import DataError

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

_LOSSES = ("train/loss", "train/classification", "train/localization")
_SCORES = ("voc/AP50_area/mean", "coco/AP")


def curves(lines: list[dict], path: Path) -> None:
    """Losses and scores by step, side by side, as PNG."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
    for panel, names, marker in zip(panels, (_LOSSES, _SCORES), ("", "o")):
        for name in names:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                panel.plot(*zip(*points), marker=marker, label=name)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        panel.legend()
    panels[0].set_yscale("log")
    panels[1].set_ylim(0, 1)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """The command."""
    workdir, output = Path(flags.FLAGS.workdir), Path(flags.FLAGS.output)
    metrics = workdir / "metrics.jsonl"
    if not metrics.exists():
        raise DataError(f"{metrics}: no such file; is --workdir a run?")
    output.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    curves(lines, output.with_name(f"{output.name}_curves.png"))
    pictures = sorted((workdir / "pictures").glob("detections_*.png"))
    if pictures:
        picture = cv2.imread(str(pictures[-1]))
        cv2.imwrite(str(output.with_suffix(".jpg")), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Run folder.", required=True)
    flags.DEFINE_string("output", None, "Where to write, without suffix.", required=True)
    cli.run(main)
