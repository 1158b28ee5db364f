"""What pyproject.toml cannot say: `configs/` becomes `ssd_jax.configs`, and who needs what.

requirements.txt has everything; the package needs it without what an extra names.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

lines = Path(__file__).with_name("requirements.txt").read_text().splitlines()
requirements = [text for line in lines if (text := line.partition("#")[0].strip())]
extras = {"tfds": [], "slurm": ["submitit>=1.5"], "board": ["tensorboard"]}
extras |= {kind: [f"jax[{kind}]"] for kind in ("cuda12", "cuda13", "tpu")}
needed = []
for requirement in requirements:
    is_tfds = re.match(r"tensorflow-datasets|importlib_resources", requirement)
    (extras["tfds"] if is_tfds else needed).append(requirement)

setup(
    packages=[*find_packages(include=["ssd_jax*"]), "ssd_jax.configs", "ssd_jax.configs.sweeps"],
    package_dir={"ssd_jax.configs": "configs"},
    install_requires=needed,
    extras_require=extras,
)
