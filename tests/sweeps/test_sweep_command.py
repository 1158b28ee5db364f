"""Every setting of every sweep of configs/sweeps passes validation and builds."""

from pathlib import Path

import pytest

from configs.sweeps import base, prediction_maps
from ssd_jax.detector import abstract_variables, build_detector
from ssd_jax.sweeps import plan

# How ml_collections loads a config file.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

FOLDER = Path("configs/sweeps")
FILES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "base")
RUNS = {
    "aspect_ratios": 12,
    "atrous": 4,
    "augmentation": 16,
    "matching": 16,
    "prediction_maps": 10,
    "prior_scales": 12,
}


def priors(config):
    return len(build_detector(config, 4).priors.boxes)


def test_no_sweep_is_without_a_count():
    assert sorted(RUNS) == FILES


@pytest.mark.parametrize("name", FILES)
def test_every_setting_of_a_sweep_builds(name):
    """`expand` validates every config; a network is built once for both seeds."""
    sweep = plan.expand(str(FOLDER / f"{name}.py"), {})
    assert len(sweep.runs) == RUNS[name]
    assert {run.config.seed for run in sweep.runs} == {0, 1}
    assert {run.overrides["config.seed"] for run in sweep.runs} == {0, 1}
    network = set()
    for run in sweep.runs:
        config = run.config
        key = (config.model.to_json(), config.priors.to_json(), config.image_size)
        if key not in network:
            network.add(key)
            assert priors(config) > 100


@pytest.mark.parametrize("name", [name for name in FILES if name != "atrous"])
def test_a_sweep_runs_on_the_papers_network_and_on_own_images(name, tmp_path):
    on_vgg = plan.expand(str(FOLDER / f"{name}.py:vgg"), {})
    assert len(on_vgg.runs) == RUNS[name] and on_vgg.base.model.name == "vgg"
    (tmp_path / "JPEGImages").mkdir()
    on_folder = plan.expand(str(FOLDER / f"{name}.py:{tmp_path}"), {})
    assert len(on_folder.runs) == RUNS[name]
    assert on_folder.base.data.train == (f"voc:{tmp_path}:trainval",)
    assert on_folder.base.image_size == (160, 160)


def test_the_base_of_sweeps_has_the_papers_priors():
    assert priors(base.get_config("vgg")) == 8732
    assert priors(base.get_config("shapes")) == 2424


@pytest.mark.parametrize("start, least, most", [("vgg", 8664, 8742), ("shapes", 2400, 2424)])
def test_fewer_maps_keep_the_number_of_priors(start, least, most):
    sweep = plan.expand(f"{FOLDER / 'prediction_maps.py'}:{start}", {})
    counts = {run.config.model.backbone.levels: priors(run.config) for run in sweep.runs}
    assert list(counts) == list(prediction_maps._RATIOS) == [6, 5, 4, 3, 2]
    assert min(counts.values()) == least and max(counts.values()) == most


def test_without_atrous_the_maps_keep_their_sizes():
    (with_it, _, without, _) = plan.expand("configs/sweeps/atrous.py", {}).runs
    built = [build_detector(run.config, 21) for run in (with_it, without)]
    sides = [[rows for rows, _ in each.priors.feature_map_sizes] for each in built]
    assert sides[0] == sides[1] == [38, 19, 10, 5, 3, 1]
    parameters = [abstract_variables(each)["params"]["backbone"] for each in built]
    assert parameters[0]["fc6"]["kernel"].shape == (3, 3, 512, 1024)
    assert parameters[1]["fc6"]["kernel"].shape == (7, 7, 512, 4096)
    assert parameters[1]["fc7"]["kernel"].shape == (1, 1, 4096, 4096)
    assert "conv9_2" in parameters[0] and "conv9_2" not in parameters[1]
