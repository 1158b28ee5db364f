"""Check every image and annotation of an experiment before training on them.

    ssd-jax check --config=NAME [--decode] [--output=data_check.json]
    python -m scripts.check_data (the same flags)

Reads annotations and the header and end of each image; with --decode all pixels too. Prints a
report and writes it as JSON. No file is changed. The exit code is 3 where something must be
corrected before training. Which errors are corrected and which are refused: docs/data.md.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssd_jax.config.validation import validate
from ssd_jax.data.checks.dataset import format_report
from ssd_jax.data.checks.experiment import check_experiment
from ssd_jax.detector import build_detector
from ssd_jax.errors import DataError
from ssd_jax.runtime.compilation import configure_jax
from ssd_jax.runtime.files import write_json


def define_flags() -> None:
    """The command's flags."""
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_bool("decode", False, "Decode all pixels too.")
    flags.DEFINE_string("output", "data_check.json", "File for the report.")
    flags.mark_flag_as_required("config")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    validate(given.config)
    configure_jax()
    priors, reports = build_detector(given.config, 2).priors.boxes, {}
    for name, summary, report in check_experiment(given.config, priors, given.decode):
        lines = [summary] if summary else []
        if report is not None:
            reports[name] = report
            lines += format_report(report)
        print("\n".join(f"{name:10s} {line}" for line in lines), flush=True)
    write_json(Path(given.output), reports)
    print(f"report     {given.output}")
    if unfit := [name for name in reports if reports[name]["errors"]]:
        raise DataError(f"not fit for training: {' and '.join(unfit)}, see the errors above")
