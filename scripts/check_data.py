"""Look at every image and annotation of an experiment before training on them.

    python scripts/check_data.py --config=configs/NAME.py [--decode] [--output=data_check.json]

Reads annotations and the header and end of each image; with --decode all pixels too. Prints a table
and writes it as JSON. The exit code is 3 where something must be mended first. No file is changed.
What happens to which mistake: docs/data.md.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ssd_jax import cli, decode, startup, step, workdir
from ssd_jax import config as configs
from ssd_jax.data import check, sources
from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError


def examine(config: ConfigDict, pixels: bool = False) -> dict[str, dict]:
    """The report of the training and of the test set; `pixels` asks for all of each image."""
    priors, reports, found = step.build(config, 2).priors.boxes, {}, {}
    classes = config.data.classes
    for part in ("train", "test"):
        scan, records = Scan(tolerant=True), []
        try:
            source = sources.make(config.data[part], config, classes, scan)
            classes, records = source.classes, found.setdefault(part, source.records)
            print(f"{part:10s} {source.summary()}")
            if pixels:
                scan.gather(source.__getitem__, tqdm(range(len(source)), desc="decoding"))
                files = [record.path for record in records if record.path.is_file()]
                scan.gather(decode.check_pixels, tqdm(files, desc="looking inside"))
        except DataError as error:
            scan.refused.append(error)
        if not records and not scan.refused:
            continue  # scenes that are drawn
        reports[part] = check.examine(records, classes, scan.refused, priors, config.image_size)
        if part == "test" and (twice := check.shared(found.get("train", []), records)):
            names = ", ".join(twice[:5])
            text = f"{len(twice)} images are in the training set too ({names})"
            reports[part]["warnings"].append(text)
        print("\n".join(f"{part:10s} {line}" for line in check.lines(reports[part])))
    return reports


def main() -> None:
    """The command."""
    given = flags.FLAGS
    configs.validate(given.config)
    startup.prepare()
    reports = examine(given.config, given.decode)
    workdir.write_json(Path(given.output), reports)
    print(f"report     {given.output}")
    if bad := [part for part in reports if reports[part]["errors"]]:
        raise DataError(f"not fit for training: {' and '.join(bad)}, see the errors above")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_bool("decode", False, "Decode all pixels too.")
    flags.DEFINE_string("output", "data_check.json", "File for the report.")
    flags.mark_flag_as_required("config")
    cli.run(main)
