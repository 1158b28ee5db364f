"""The package's commands as a user types them, on the smallest detector."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


MICRO = [
    "--config=configs/quickstart.py", "--config.image_size=(32, 32)", "--config.batch_size=4",
    "--config.data.train=('shapes:train:12',)", "--config.data.test=('shapes:test:6',)",
    "--config.model.backbone.levels=2", "--config.priors.aspect_ratios=((2.0,), (2.0,))",
    "--config.optim.warmup_steps=1", "--config.steps=6", "--config.eval_every=0",
    "--config.save_every=2",
]  # fmt: skip


def command(module, *arguments):
    return [sys.executable, "-m", f"ssd_jax.{module}", *map(str, arguments)]


def call(module, *arguments, **options):
    return subprocess.run(
        command(module, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=300,
        **options,
    )  # fmt: skip


def call_script(name, *arguments):
    """`python -m scripts.NAME`."""
    return subprocess.run(
        [sys.executable, "-m", f"scripts.{name}", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
