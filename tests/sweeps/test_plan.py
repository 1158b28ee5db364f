"""The functions of `get_hyper` by hand, run ids, command lines, and sweep.json."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from ssd_jax.config.validation import validate
from ssd_jax.errors import ConfigError, DataError
from ssd_jax.sweeps import hyper, plan
from ssd_jax.sweeps.sweep_file import read_sweep, with_saved_ids, write_sweep

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
    settings = hyper.product([[A1, A2], [B1, B2]])
    assert settings == [A1 | B1, A1 | B2, A2 | B1, A2 | B2]
    assert hyper.product([[A1, A2]]) == [A1, A2]
    assert hyper.product([]) == [{}]


def test_zipit_takes_side_by_side_and_one_goes_with_all():
    assert hyper.zipit([[A1, A2], [B1, B2]]) == [A1 | B1, A2 | B2]
    assert hyper.zipit([[A1, A2], [B1]]) == [A1 | B1, A2 | B1]
    with pytest.raises(ConfigError, match="2, 3 settings"):
        hyper.zipit([[A1, A2], [B1, B2, B1]])


def test_chainit_takes_one_after_the_other():
    assert hyper.chainit([[A1, A2], [B1]]) == [A1, A2, B1]


def test_functions_nest_and_take_generators():
    settings = hyper.product([hyper.chainit(part for part in ([A1], [A2])), (x for x in [B1])])
    assert settings == [A1 | B1, A2 | B1]


@pytest.mark.parametrize("combine", [hyper.product, hyper.zipit])
def test_a_field_that_two_parts_set_is_refused(combine):
    with pytest.raises(ConfigError, match="two parts of a sweep set config.a"):
        combine([[A1], [A2]])


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
        ("priors.floor_sizes", True),
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
    flags = plan.command_line_flags("configs/quickstart.py", {field: value})
    assert shlex.split(shlex.join(flags)) == flags
    config = plan.parse_config("configs/quickstart.py", {field: value})
    for part in name.split("."):
        config = config[part]
    assert config == value and type(config) is (float if name.endswith("rate") else type(value))


def test_all_problems_are_reported_with_their_settings(expand):
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
        "config.priors.formula.s_min=0.05: config.priors.formula.s_min=0.05 must be above first",
        "config.optim.warmup_steps=9: config.optim.warmup_steps is set on the command line too",
    ):  # fmt: skip
        assert any(line.startswith(start) for line in lines), (start, lines)
    assert not any(line.startswith("config.seed=0") for line in lines)


def test_a_problem_of_every_setting_is_reported_once(expand):
    with pytest.raises(ConfigError) as error:
        expand("hyper.sweep('config.seed', [0, -1])", {"config.optim.ema_decay": 2.0})
    every, one = str(error.value).splitlines()
    assert every.startswith("every setting: config.optim.ema_decay=2.0 must be")
    assert one.startswith("config.seed=-1: config.seed=-1 must be")


def test_a_file_without_a_sweep_or_with_a_broken_one_is_refused(expand, tmp_path):
    with pytest.raises(ConfigError, match="has no get_hyper"):
        plan.expand("configs/quickstart.py", {})
    with pytest.raises(ConfigError, match="get_hyper fails, AttributeError: .*random"):
        expand("hyper.random()")
    with pytest.raises(ConfigError, match="no setting"):
        expand("[]")


def test_a_sweep_is_read_back_from_its_folder(expand, tmp_path):
    body = "hyper.sweep('config.augment.geometric', [(), ('flip',)])"
    sweep = expand(body, {"config.model.std": (1.0, 2.0, 3.0)})
    write_sweep(sweep, tmp_path / "runs")
    again = read_sweep(tmp_path / "runs")
    assert [(run.id, run.overrides) for run in again.runs] == [
        (run.id, run.overrides) for run in sweep.runs
    ]
    for read, written in zip(again.runs, sweep.runs):
        assert read.config.to_dict() == written.config.to_dict()
    assert again.overrides == sweep.overrides and again.base.to_dict() == sweep.base.to_dict()


def test_a_list_of_runs_does_not_change(expand, tmp_path):
    folder = tmp_path / "runs"
    write_sweep(expand("hyper.sweep('config.seed', [0, 1])"), folder)
    before = (folder / "sweep.json").read_bytes()
    write_sweep(expand("hyper.sweep('config.seed', [1, 0])"), folder)  # the same runs
    with pytest.raises(ConfigError) as error:
        write_sweep(expand("hyper.sweep('config.seed', [1, 2])", {"config.steps": 999}), folder)
    message = str(error.value)
    assert "holds another sweep" in message and "config.steps: 1000 -> 999" in message
    assert "removed: config.seed=0" in message and "added: config.seed=2" in message
    assert (folder / "sweep.json").read_bytes() == before


def test_a_folder_without_a_sweep_and_a_damaged_one_are_refused(expand, tmp_path):
    with pytest.raises(DataError, match="is --workdir a sweep's folder"):
        read_sweep(tmp_path)
    sweep = expand("hyper.sweep('config.seed', [0])")
    assert with_saved_ids(sweep, tmp_path) == sweep  # nothing to differ from
    for text in ("{", "[]", json.dumps({"base": {}, "runs": [{}]})):
        Path(tmp_path, "sweep.json").write_text(text)
        with pytest.raises(DataError, match="damaged"):
            read_sweep(tmp_path)


FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "sweep_0_1"


def test_a_sweep_of_version_0_1_is_read_with_todays_names():
    """Commit 4642bad wrote it: `micro` with EMA parameters, and sizes of priors floored or not."""
    sweep = read_sweep(FIXTURE)
    assert [run.id for run in sweep.runs] == ["73028fd5", "326f1504"]
    for run, floor_sizes in zip(sweep.runs, (False, True)):
        assert run.overrides == {"config.priors.floor_sizes": floor_sizes}
        assert run.config.priors.floor_sizes is floor_sizes
        assert run.config.optim.ema_decay == 0.5 and run.config.steps == 400
        validate(run.config)
    assert sweep.overrides == {
        "config.optim.ema_decay": 0.5, "config.steps": 400, "config.eval_every": 200,
        "config.log_every": 100,
    }  # fmt: skip


def test_a_sweep_of_version_0_1_is_continued_in_its_folders(tmp_path):
    """Its ids are hashes of older names: the same sweep with today's names takes them over."""
    path = tmp_path / "sweep.py"
    path.write_text(
        "from micro import get_config\n\ndef get_hyper(hyper):\n"
        "    return hyper.sweep('config.priors.floor_sizes', [True, False])\n"
    )
    overrides = read_sweep(FIXTURE).overrides
    sweep = plan.expand(str(path), overrides)
    assert not {run.id for run in sweep.runs} & {"73028fd5", "326f1504"}
    continued = with_saved_ids(sweep, FIXTURE)
    assert [run.id for run in continued.runs] == ["326f1504", "73028fd5"]
    assert {run.config.data.orientation for run in continued.runs} == {"stored"}
    assert continued.overrides["config.data.orientation"] == "stored"
    with pytest.raises(ConfigError, match="config.optim.ema_decay: 0.5 -> 0.9"):
        with_saved_ids(plan.expand(str(path), overrides | {"config.optim.ema_decay": 0.9}), FIXTURE)


def test_a_sweep_of_a_newer_version_is_refused(expand, tmp_path):
    write_sweep(expand("hyper.sweep('config.seed', [0])"), tmp_path)
    saved = json.loads((tmp_path / "sweep.json").read_text())
    saved["base"]["config_version"] += 1
    (tmp_path / "sweep.json").write_text(json.dumps(saved))
    with pytest.raises(DataError, match="sweep.json: .*newer ssd_jax"):
        read_sweep(tmp_path)
