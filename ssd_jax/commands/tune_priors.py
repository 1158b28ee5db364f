"""Fit the sizes and aspect ratios of priors to annotations, without growing their number.

    ssd-jax tune-priors --config=NAME [--apply=OUT.py] [--annotations=FILE.tar.gz] \
        [--output=priors.png]
    python -m scripts.tune_priors (the same flags)

Reports how well the config's priors and the proposed ones fit the boxes of `config.data.train`, or
of an archive of PASCAL VOC annotations. No pixels are read. Every fifth image is held out from the
search. Writes a picture, all numbers beside it as JSON, and with --apply a config to train with.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssd_jax.config.validation import validate
from ssd_jax.detector import build_detector
from ssd_jax.errors import ConfigError
from ssd_jax.prior_tuning import ground_truth, write_config
from ssd_jax.prior_tuning.tune import tune_priors
from ssd_jax.runtime.compilation import configure_jax
from ssd_jax.runtime.files import write_bytes


def define_flags() -> None:
    """The command's flags."""
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_string("annotations", None, "Archive of PASCAL VOC annotations, instead of data.")
    flags.DEFINE_string("apply", None, "Config file to write.")
    flags.DEFINE_string("output", "priors.png", "The picture; the numbers are written beside it.")
    flags.mark_flag_as_required("config")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    validate(given.config)
    output, path = Path(given.output), Path(given.apply) if given.apply else None
    if output.suffix != ".png":
        raise ConfigError(f"--output={output}: the picture is a PNG, name it .png")
    if path:
        write_config.check_output(path)
    configure_jax()
    build_detector(given.config, 2)  # reports tables that do not fit before annotations are read
    if given.annotations:
        dataset = ground_truth.read_voc_archive(Path(given.annotations), given.config)
    else:
        dataset = ground_truth.read_training_set(given.config)
    tuning = tune_priors(given.config, dataset, output)
    print(tuning.text)
    if path:
        base = config_flags.get_config_filename(given["config"])
        description = write_config.describe_tuning(base, given.annotations, tuning.report)
        source = write_config.config_source(path, base, tuning.config, description)
        write_bytes(path, source.encode())
        print(f"config   {path}")
    print(f"picture  {output}\nnumbers  {output.with_suffix('.json')}")
