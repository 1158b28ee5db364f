import json
import re

import micro
import pytest

from ssd_jax import config as configs
from ssd_jax.errors import ConfigError


def test_a_config_survives_json_with_its_tuples():
    config = micro.get_config()
    back = configs.from_dict(json.loads(json.dumps(configs.to_dict(config))))
    assert back.to_dict() == config.to_dict()
    assert back.is_locked
    assert isinstance(back.priors.aspect_ratios[0], tuple)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"batch_size": 8}, {"augment__flip__vertical": 0.5},
        {"model__backbone__levels": 3}, {"priors__clip": True}, {"matching__threshold": 0.4},
        {"loss__negative_ratio": 1.0}, {"optim__momentum": 0.5},
    ],
)  # fmt: skip
def test_what_makes_another_experiment(change):
    old, new = configs.identity(micro.get_config()), configs.identity(micro.get_config(**change))
    (line,) = configs.differences(old, new)
    (name,) = change
    assert line.startswith(f"config.{name.replace('__', '.')}: ") and " -> " in line


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 100}, {"log_every": 7}, {"eval_every": 7}, {"save_every": 7},
        {"parallel": "jit"}, {"postprocess__top_k": 5}, {"data__test": ("shapes:test:7",)},
    ],
)  # fmt: skip
def test_what_may_differ_on_resume(change):
    old, new = configs.identity(micro.get_config()), configs.identity(micro.get_config(**change))
    assert old == new


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matching__difficult": "ingore"}, "matching.difficult='ingore' is not one of train"),
        ({"matching__matcher": "foo"}, "one of best_prior, bipartite"),
        ({"parallel": "pmpa"}, "one of pmap, jit"),
        ({"batch_size": 0}, "batch_size=0 must be above 0"),
        ({"seed": -1}, "seed=-1 must not be below 0"),
        ({"image_size": (32, 32, 24, 56)}, "is not (height, width)"),
        ({"optim__learning_rate": float("nan")}, "learning_rate=nan"),
        ({"optim__warmup_steps": 6}, "warmup_steps=6 reaches"),
        ({"optim__schedule": "step", "optim__warmup_steps": 4}, "warmup_steps=4 reaches"),
    ],
)
def test_values_that_cannot_work_are_refused(change, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        configs.check(micro.get_config(**change))


def test_all_problems_are_in_one_message():
    with pytest.raises(ConfigError) as error:
        configs.check(micro.get_config(seed=-1, batch_size=-4, parallel="x"))
    assert len(str(error.value).splitlines()) == 3


def test_an_absent_field_is_a_difference():
    assert configs.differences({"a": 1}, {"b": None}) == [
        "a: 1 -> (absent)",
        "b: (absent) -> None",
    ]
