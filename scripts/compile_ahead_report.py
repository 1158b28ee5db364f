"""Compile every config for TPUs that are not attached: the tables of docs/accelerators.md.

    python -m scripts.compile_ahead_report [--only=TEXT] [--render]

A row whose file docs/accelerators/NAME.json is there is not compiled again. --only takes the rows
with TEXT in their name, --render takes none. A row takes minutes.
"""

import subprocess
import sys
from pathlib import Path

from absl import flags

from scripts.benchmarks.report import write_page
from ssd_jax.ahead_of_time.page import format_tables
from ssd_jax.errors import SsdError
from ssd_jax.runtime import command_line
from ssd_jax.runtime.files import read_json

_DOCS = Path(__file__).resolve().parents[1] / "docs"
_MARKERS = ("<!-- estimates: begin -->", "<!-- estimates: end -->")
_OWN_DATA = {"finetune": "--num_classes=4", "voc_folder": "--num_classes=4"}
_CONFIGS = ["quickstart", *_OWN_DATA, "ssd300_vgg16_voc", "ssd300_vgg16_coco", "ssd512_vgg16_voc",
            "ssd300_resnet34_coco", "ssd300_resnet50_coco", "ssd300_mobilenet_v1_coco",
            "ssd300_mobilenet_v1_tflite", "ssdlite320_mobilenet_v3_coco"]  # fmt: skip
_COMPARED = ["ssd300_vgg16_voc", "ssd300_resnet50_coco"]
_ROWS = [  # config, what, topology, runner
    *((name, "train", "v5e:2x2", "pmap") for name in _CONFIGS),
    *((name, "predict", "v5e:2x2", "pmap") for name in _COMPARED),
    *((name, "train", topology, "pmap") for name in _COMPARED
      for topology in ("v5e:4x4", "v6e:2x2", "v5p:2x2x1")),
    *((name, "train", "v5e:2x2", "jit") for name in ("quickstart", *_COMPARED)),
]  # fmt: skip


def compile_row(output: Path, config: str, what: str, topology: str, runner: str) -> bool:
    """Compile in a process of its own; whether the numbers are in `output`."""
    print(f"{output.stem} …", flush=True)
    command = [sys.executable, "-m", "scripts.compile_ahead", f"--config=configs/{config}.py",
               f"--what={what}", f"--topology={topology}", f"--config.parallel={runner}",
               "--config.model.dtype=bfloat16", f"--json={output}"]  # fmt: skip
    command += [_OWN_DATA[config]] if config in _OWN_DATA else []
    return subprocess.run(command, cwd=_DOCS.parent, stdout=subprocess.DEVNULL).returncode == 0


def main() -> None:
    """The command."""
    failed = []
    for config, what, topology, runner in [] if flags.FLAGS.render else _ROWS:
        name = f"{config}_{what}_{topology.replace(':', '_')}_{runner}"
        output = _DOCS / "accelerators" / f"{name}.json"
        wanted = flags.FLAGS.only in name and not output.exists()
        if wanted and not compile_row(output, config, what, topology, runner):
            failed.append(name)
    saved = [read_json(path) for path in (_DOCS / "accelerators").glob("*.json")]
    write_page(_DOCS / "accelerators.md", format_tables(saved), *_MARKERS)
    if failed:
        raise SsdError(f"failed: {', '.join(failed)}; their errors are printed above")


if __name__ == "__main__":
    flags.DEFINE_string("only", "", "Compile the rows with this in their name.")
    flags.DEFINE_bool("render", False, "Only write the page.")
    command_line.run(main)
