"""The verbs by hand, run ids, command lines, and a list of runs that does not change."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from scripts.sweeping import hyper, plan
from ssd_jax.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

A1, A2 = {"config.a": 1}, {"config.a": 2}
B1, B2 = {"config.b": 1}, {"config.b": 2}


def write(folder, body, name="sweep.py"):
    """A config file: `quickstart` with this get_hyper."""
    path = folder / name
    path.write_text(
        f"from configs.quickstart import get_config\n\ndef get_hyper(hyper):\n    return {body}\n"
    )
    return str(path)


@pytest.fixture
def expand(tmp_path):
    return lambda body, given=(): plan.expand(write(tmp_path, body), dict(given))


def test_sweep_gives_a_setting_a_value_as_a_config_holds_it():
    assert hyper.sweep("config.a", [1, 2]) == [A1, A2]
    (first, second) = hyper.sweep("config.a", np.array([0.5, 1.0]))
    assert first == {"config.a": 0.5} and type(second["config.a"]) is float
    assert hyper.sweep("config.a", [[1, [2.0]]]) == [{"config.a": (1, (2.0,))}]


def test_product_takes_each_with_each_and_the_last_varies_fastest():
    found = hyper.product([[A1, A2], [B1, B2]])
    assert found == [A1 | B1, A1 | B2, A2 | B1, A2 | B2]
    assert hyper.product([[A1, A2]]) == [A1, A2]
    assert hyper.product([]) == [{}]


def test_zipit_takes_side_by_side_and_one_goes_with_all():
    assert hyper.zipit([[A1, A2], [B1, B2]]) == [A1 | B1, A2 | B2]
    assert hyper.zipit([[A1, A2], [B1]]) == [A1 | B1, A2 | B1]
    with pytest.raises(ConfigError, match="2, 3 settings"):
        hyper.zipit([[A1, A2], [B1, B2, B1]])


def test_chainit_takes_one_after_the_other():
    assert hyper.chainit([[A1, A2], [B1]]) == [A1, A2, B1]


def test_verbs_nest_and_take_generators():
    found = hyper.product([hyper.chainit(part for part in ([A1], [A2])), (x for x in [B1])])
    assert found == [A1 | B1, A2 | B1]


@pytest.mark.parametrize("verb", [hyper.product, hyper.zipit])
def test_a_field_that_two_parts_set_is_refused(verb):
    with pytest.raises(ConfigError, match="two parts of a sweep set config.a"):
        verb([[A1], [A2]])


def test_a_run_id_depends_on_the_overrides_alone():
    # printf '{"config.seed": 1, "config.steps": 10}' | sha256sum
    assert plan.run_id({"config.seed": 1, "config.steps": 10}) == "b3d6bc26"
    assert plan.run_id({"config.steps": 10, "config.seed": 1}) == "b3d6bc26"
    assert plan.run_id({"config.steps": 10, "config.seed": 2}) != "b3d6bc26"


def test_settings_become_runs_in_order(expand):
    sweep = expand("hyper.sweep('config.seed', [3, 1])", {"config.steps": 700})
    assert [run.overrides for run in sweep.runs] == [{"config.seed": 3}, {"config.seed": 1}]
    assert [run.config.seed for run in sweep.runs] == [3, 1]
    assert {run.config.steps for run in sweep.runs} == {sweep.base.steps} == {700}


def test_settings_of_one_config_are_one_run(expand):
    sweep = expand("[{}, {'config.seed': 0}, {'config.seed': 1}, {'config.seed': 1}]")
    assert [run.overrides for run in sweep.runs] == [{}, {"config.seed": 1}]


@pytest.mark.parametrize(
    "name, value",
    [
        ("seed", 3),
        ("optim.learning_rate", 1e-5),
        ("optim.learning_rate", 1),
        ("priors.truncate", True),
        ("deterministic", False),
        ("init.source", "a b'c,(1)"),
        ("init.source", ""),
        ("init.source", "None"),
        ("matching.matcher", "bipartite"),
        ("augment.geometric", ()),
        ("augment.geometric", ("flip",)),
        ("augment.geometric", ("zoom_out", "flip")),
        ("image_size", (64, 96)),
        ("augment.iou_crop.scale", (0.25, 1.0)),
        ("priors.aspect_ratios", ((2.0,), (), (2.0, 3.0), (1.5,), ())),
        ("model.std", (1, 2, 3)),
        ("data.train", ("voc:a folder:train", "shapes:train:5")),
    ],
)
def test_a_value_survives_the_command_line(name, value):
    """As a shell splits what is printed, and the flags of every entry point read it."""
    field = f"config.{name}"
    flags = plan.arguments("configs/quickstart.py", {field: value})
    assert shlex.split(shlex.join(flags)) == flags
    config = plan.parse("configs/quickstart.py", {field: value})
    for part in name.split("."):
        config = config[part]
    assert config == value and type(config) is (float if name.endswith("rate") else type(value))


def test_all_that_is_wrong_is_said_at_once_and_of_which_setting(expand):
    with pytest.raises(ConfigError) as error:
        expand(
            "[{'config.seeed': 1}, {'config.seed': 0}, {'config.seed': 1.5},"
            " {'config.steps': 'many'}, {'seed': 1}, {'config.augment.geometric': 'flip'},"
            " {'config.priors.formula.s_min': 0.05}, {'config.optim.warmup_steps': 9}]",
            {"config.optim.warmup_steps": 5},
        )
    lines = str(error.value).splitlines()
    assert lines[0].startswith("config.seeed=1: ") and "seed" in lines[0]
    for start in (
        "config.seed=1.5: ", "config.steps=many: ", "seed=1: seed is not a field",
        "config.augment.geometric=flip: config.augment.geometric='flip' would become ('flip',)",
        "config.priors.formula.s_min=0.05: config.priors.formula.s_min=0.05 must lie above first",
        "config.optim.warmup_steps=9: config.optim.warmup_steps is set on the command line too",
    ):  # fmt: skip
        assert any(line.startswith(start) for line in lines), (start, lines)
    assert not any(line.startswith("config.seed=0") for line in lines)


def test_what_is_wrong_with_every_setting_is_said_once(expand):
    with pytest.raises(ConfigError) as error:
        expand("hyper.sweep('config.seed', [0, -1])", {"config.optim.ema": 2.0})
    every, one = str(error.value).splitlines()
    assert every.startswith("every setting: config.optim.ema=2.0 must be")
    assert one.startswith("config.seed=-1: config.seed=-1 must be")


def test_a_file_without_a_sweep_or_with_a_broken_one_is_refused(expand, tmp_path):
    with pytest.raises(ConfigError, match="has no get_hyper"):
        plan.expand("configs/quickstart.py", {})
    with pytest.raises(ConfigError, match="get_hyper fails, AttributeError: .*random"):
        expand("hyper.random()")
    with pytest.raises(ConfigError, match="no setting"):
        expand("[]")


def test_a_sweep_that_was_begun_comes_back_from_its_folder(expand, tmp_path):
    body = "hyper.sweep('config.augment.geometric', [(), ('flip',)])"
    sweep = expand(body, {"config.model.std": (1.0, 2.0, 3.0)})
    plan.claim(sweep, tmp_path / "runs")
    again = plan.load(tmp_path / "runs")
    assert [(run.id, run.overrides) for run in again.runs] == [
        (run.id, run.overrides) for run in sweep.runs
    ]
    for mine, theirs in zip(again.runs, sweep.runs):
        assert mine.config.to_dict() == theirs.config.to_dict()
    assert again.given == sweep.given and again.base.to_dict() == sweep.base.to_dict()


def test_a_list_of_runs_does_not_change(expand, tmp_path):
    folder = tmp_path / "runs"
    plan.claim(expand("hyper.sweep('config.seed', [0, 1])"), folder)
    before = (folder / "sweep.json").read_bytes()
    plan.claim(expand("hyper.sweep('config.seed', [1, 0])"), folder)  # the same runs
    with pytest.raises(ConfigError) as error:
        plan.claim(expand("hyper.sweep('config.seed', [1, 2])", {"config.steps": 999}), folder)
    message = str(error.value)
    assert "holds another sweep" in message and "config.steps: 1000 -> 999" in message
    assert "no longer: config.seed=0" in message and "new: config.seed=2" in message
    assert (folder / "sweep.json").read_bytes() == before


def test_a_folder_without_a_sweep_and_a_damaged_one_are_refused(expand, tmp_path):
    with pytest.raises(DataError, match="is --workdir a sweep's folder"):
        plan.load(tmp_path)
    plan.check_same(expand("hyper.sweep('config.seed', [0])"), tmp_path)  # nothing to differ from
    for text in ("{", "[]", json.dumps({"base": {}, "runs": [{}]})):
        Path(tmp_path, "sweep.json").write_text(text)
        with pytest.raises(DataError, match="damaged"):
            plan.load(tmp_path)
