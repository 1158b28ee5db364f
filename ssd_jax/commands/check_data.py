"""Check every image and annotation of an experiment before training on them.

    ssd-jax check --config=NAME [--decode] [--output=data_check.json]
    ssd-jax check PATH
    python -m scripts.check_data (the same flags)

PATH is a folder of photographs: it is said what it holds, and how a config names its sets.

Reads annotations and the header and end of each image; with --decode all pixels too. Prints a
report and writes it as JSON. No file is changed. The exit code is 3 where something must be
corrected before training. Which errors are corrected and which are refused: docs/data.md.
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from ssd_jax.config.packaged import load_config
from ssd_jax.config.validation import validate
from ssd_jax.data.checks.dataset import format_report
from ssd_jax.data.checks.experiment import check_experiment
from ssd_jax.data.recognize import recognize
from ssd_jax.detector import build_detector
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.runtime.compilation import configure_jax
from ssd_jax.runtime.files import write_json

WORDS = "folder"  # the flag that takes words of the command line which stand alone


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_multi_string("folder", None, "In place of a config: a folder of photographs.")
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_bool("decode", False, "Decode all pixels too.")
    flags.DEFINE_string("output", "data_check.json", "File for the report.")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    if (given.config is None) == (not given.folder) or len(given.folder or ()) > 1:
        raise ConfigError("give --config=NAME, or one folder of photographs")
    config = given.config if given.config is not None else _describe_folder(given.folder[0])
    validate(config)
    configure_jax()
    priors, reports = build_detector(config, 2).priors.boxes, {}
    for name, summary, report in check_experiment(config, priors, given.decode):
        lines = [summary] if summary else []
        if report is not None:
            reports[name] = report
            lines += format_report(report)
        print("\n".join(f"{name:10s} {line}" for line in lines), flush=True)
    write_json(Path(given.output), reports)
    print(f"report     {given.output}")
    if unfit := [name for name in reports if reports[name]["errors"]]:
        raise DataError(f"not fit for training: {' and '.join(unfit)}, see the errors above")


def _describe_folder(folder: str) -> ConfigDict:
    """Print what a folder holds; returns the config that trains on it."""
    for reading in recognize(folder):
        print(reading.summary)
        for split, spec in reading.specs.items():
            print(f"  {split:8s} {spec}")
    return load_config(f"voc_folder:{folder}")
