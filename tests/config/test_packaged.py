"""Configs by name, and config files that import each other from any folder."""

import os
import subprocess
import sys
from pathlib import Path

from ssd_jax.config import packaged

ROOT = Path(packaged.__file__).resolve().parents[2]


def test_names_become_files_and_other_values_stay():
    file = str(ROOT / "configs" / "quickstart.py")
    assert packaged.find_config("quickstart") == file
    assert packaged.find_config("sweeps/atrous") == str(ROOT / "configs" / "sweeps" / "atrous.py")
    folder = packaged.find_config("finetune:photographs:of/blood")
    assert folder == str(ROOT / "configs" / "finetune.py") + ":photographs:of/blood"
    for other in ("configs/quickstart.py", "quickstart.py", "presets", "my", "", ":"):
        assert packaged.find_config(other) == other


def test_names_are_those_of_the_files_that_are_experiments():
    names = packaged.list_configs()
    assert {"quickstart", "ssd300_vgg16_voc", "sweeps/prior_scales"} <= set(names)
    for name in names:
        text = (ROOT / "configs" / f"{name}.py").read_text()
        assert "def get_config(" in text or "def get_hyper(" in text, name


def test_own_configs_and_those_of_the_project_are_found_together(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text(
        "from configs import voc_folder\nBASE = voc_folder"
    )
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from ssd_jax.config import packaged; packaged.make_importable(); del sys.path[-1]\n"
        "from configs import mine, presets; print(mine.BASE.__file__, presets.__file__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": ""},
    )  # fmt: skip
    expected = [str(ROOT / "configs" / name) for name in ("voc_folder.py", "presets.py")]
    assert result.stdout.split() == expected, result.stderr
