"""Fit the sizes and aspect ratios of priors to annotations, without growing their number.

    python scripts/tune_priors.py --config=configs/NAME.py [--apply=OUT.py] \
        [--annotations=FILE.tar.gz] [--output=priors.png]

Reports how well the config's priors and the proposed ones fit the truths of `config.data.train`,
or of an archive of PASCAL VOC annotations. Needs no pixels. Every fifth image is held out from the
search. Writes a picture, all numbers beside it as JSON, and with --apply a config to train with.
"""

import sys
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts.prior_tuning import applied, overlap, plot, report, search, truths
from ssd_jax import cli, startup, step, workdir
from ssd_jax import config as configs
from ssd_jax.errors import ConfigError


def tuned(config: ConfigDict, images: truths.Images, picture: Path) -> tuple[ConfigDict, dict]:
    """The config with the proposed priors, and the report, which is written and printed."""
    table = overlap.grid(config)
    _tell(f"{len(images.truths)} images, as training sees them …")
    pictures = truths.pictures(images, config)
    views = sorted({each.augmented for each in pictures})
    kinds = [
        np.concatenate([p.boxes for p in pictures if p.augmented == view and not p.held_out])
        for view in views
    ]
    before = search.fields_of(config, table)
    after = search.tune(config, kinds, table, _tell)
    proposed = config if after == before else search.with_fields(config, after)
    configs.validate(proposed)
    _tell("counting the priors of truths …")
    both, classes = (config, proposed), images.classes
    measured = tuple(report.measure(each, pictures, table, len(classes)) for each in both)
    found = report.figures(pictures, measured, classes, table.image_size)
    document = {
        "images": len(images.truths), "before": before._asdict(), "after": after._asdict(),
        "figures": found,
    }  # fmt: skip
    plot.draw(picture, found, both, pictures, table)
    workdir.write_json(picture.with_suffix(".json"), document)
    print(_fields("before", before) + _fields("after", after), report.tables(found), sep="\n")
    return proposed, document


def _fields(when: str, fields: search.Fields) -> str:
    return "".join(
        f"{when:<6}  config.priors.{name} = {_rounded(value)}\n"
        for name, value in fields._asdict().items()
        if value
    )


def _rounded(value):
    """Numbers that a formula made, cut to what can be read."""
    return tuple(map(_rounded, value)) if isinstance(value, tuple) else round(value, 2)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def story(base: str, annotations: str | None, document: dict) -> str:
    """What the docstring of a written config says."""
    of = f"--annotations={annotations}" if annotations else "its training data"
    lines = [
        f"{base} with priors fitted to annotations.",
        "Sizes and aspect ratios by scripts/tune_priors.py.",
        f"From {document['images']} images of {of}.",
    ]
    for view, groups in document["figures"]["held out"].items():
        if groups["all"]["truths"]:
            recall, mean_iou = (
                "{:.3f} -> {:.3f}".format(*groups["all"][name]) for name in ("recall", "mean_iou")
            )
            lines.append(
                f"Held-out truths, {view}: recall at IoU .5 {recall}, mean best IoU {mean_iou}."
            )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    given = flags.FLAGS
    configs.validate(given.config)
    output, path = Path(given.output), Path(given.apply) if given.apply else None
    if output.suffix != ".png":
        raise ConfigError(f"--output={output}: a picture, name it .png")
    if path:
        applied.check(path)
    startup.prepare()
    step.build(given.config, 2)  # what does not fit is told before annotations are read
    if given.annotations:
        images = truths.of_archive(Path(given.annotations), given.config)
    else:
        images = truths.of_training_data(given.config)
    proposed, document = tuned(given.config, images, output)
    if path:
        base = config_flags.get_config_filename(given["config"])
        source = applied.text(path, base, proposed, story(base, given.annotations, document))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        print(f"config   {path}")
    print(f"picture  {output}\nnumbers  {output.with_suffix('.json')}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_string("annotations", None, "Archive of PASCAL VOC annotations, instead of data.")
    flags.DEFINE_string("apply", None, "Config file to write.")
    flags.DEFINE_string("output", "priors.png", "The picture; the numbers are written beside it.")
    flags.mark_flag_as_required("config")
    cli.run(main)
