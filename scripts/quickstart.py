"""Train the small detector of configs/quickstart.py on drawn shapes, and say what to do next.

bash scripts/quickstart.sh [--workdir=DIR] [--config.FIELD=VALUE …]
python -m scripts.quickstart (the same, in an environment that is there)
"""

import os
import sys
from pathlib import Path

from absl import flags

from ssd_jax import main as training
from ssd_jax.runtime.command_line import run_command

_CONFIG = "--config=configs/quickstart.py"
_DETECTOR = "tflite:coco_ssd_mobilenet_v1"


def define_flags() -> None:
    """The flags of training."""
    training.define_flags()


def main() -> None:
    """Train, draw scenes that the detector has not seen, and print the next commands."""
    training.main()
    from ssd_jax.data.formats.shapes import Shapes
    from ssd_jax.runtime.distributed import is_main_process
    from ssd_jax.visualize.images import save_image

    if not is_main_process():
        return
    folder = Path(flags.FLAGS.workdir or training.default_workdir())
    scenes = Shapes("val", 4, tuple(flags.FLAGS.config.image_size))
    for i in range(len(scenes)):
        save_image(folder / "unseen" / f"{i}.png", scenes[i]["image"])
    print("\nTo try here:")
    if "VIRTUAL_ENV" not in os.environ and sys.prefix != sys.base_prefix:
        print(f"source {os.path.relpath(sys.prefix)}/bin/activate")
    print(f"python -m ssd_jax.predict --workdir={folder} --input={folder}/unseen --output=found")
    print(f"python -m ssd_jax.predict --weights={_DETECTOR} --input=PICTURES")
    print(f"ssd-jax train PHOTOS --workdir=runs/mine --weights={_DETECTOR}")
    print("PICTURES: any photographs. PHOTOS: those with annotations, docs/own_photographs.md")


if __name__ == "__main__":
    if not any(argument.startswith("--config=") for argument in sys.argv):
        sys.argv.insert(1, _CONFIG)
    run_command(sys.modules[__name__])
