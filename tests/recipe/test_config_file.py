"""The written config: it loads, says what was chosen, and follows flags by references."""

import math

import pytest
from voc_folders import put_voc

from ssd_jax.config.packaged import load_config
from ssd_jax.config.serialization import from_saved, to_saved
from ssd_jax.config.validation import validate
from ssd_jax.errors import ConfigError
from ssd_jax.recipe.config_file import format_config_file, read_config_file
from ssd_jax.recipe.recipe import choose_recipe, describe_recipe
from ssd_jax.recipe.setting import apply_settings


def write(folder, path, weights="none", **choices):
    recipe = choose_recipe(folder, weights, **choices)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = format_config_file(recipe, path.parent, choices.get("reading"))
    path.write_text(text)
    return recipe, text


@pytest.mark.parametrize(
    "weights",
    ["none", "tflite:coco_ssd_mobilenet_v1", "torchvision:ssd300_vgg16", "torchvision:resnet34"],
)
def test_the_file_is_the_recipe(tmp_path, weights):
    put_voc(tmp_path / "photos", [f"photo {i}" for i in range(20)])
    recipe, text = write(tmp_path / "photos", tmp_path / "run" / "config.py", weights)
    written = load_config(str(tmp_path / "run" / "config.py"))
    validate(written)
    expected = load_config(recipe.start.base)
    settings = (*recipe.start.settings, *recipe.photographs.settings, *recipe.priors.settings)
    apply_settings(expected, settings)
    for config in (expected, written):
        for name in ("steps", "eval_every", "patience"):
            config[name] = 7
        config.optim.warmup_steps = 1
    assert written.to_dict() == expected.to_dict()
    assert ("Not measured" in text) == (not recipe.start.is_measured)
    assert dict(describe_recipe(recipe))["photos"].startswith("PASCAL VOC: 20 photographs")


def test_its_length_follows_epochs_steps_and_batches(tmp_path):
    put_voc(tmp_path / "photos", [f"photo {i}" for i in range(40)])
    path = tmp_path / "run" / "config.py"
    recipe, _ = write(tmp_path / "photos", path)
    count = recipe.count
    config = load_config(str(path))
    assert config.steps == -(-count * recipe.epochs // 16)
    assert config.optim.warmup_steps == config.steps // 25 > 30
    assert math.ceil(config.steps / config.eval_every) <= 25 and config.patience == 12
    config.batch_size = 8
    assert config.steps == -(-count * recipe.epochs // 8)
    config.steps = 3
    validate(config)
    assert (config.eval_every, config.optim.warmup_steps) == (1, 0)
    assert from_saved(to_saved(config)).steps == 3
    assert config.copy_and_resolve_references().optim.warmup_steps == 0
    for epochs in (1, 2, 100):
        config = load_config(f"{path}:{epochs}")
        validate(config)
        assert config.steps == -(-count * epochs // 16)
        assert math.ceil(config.steps / config.eval_every) <= min(epochs, 25)


@pytest.mark.parametrize("count", [2, 5])
def test_very_few_photographs_are_enough(tmp_path, count):
    put_voc(tmp_path / "photos", [f"photo {i}" for i in range(count)])
    path = tmp_path / "run" / "config.py"
    recipe, _ = write(tmp_path / "photos", path, epochs=1)
    config = load_config(str(path))
    validate(config)
    assert config.steps == 1 and config.optim.warmup_steps == 0 and 1 <= recipe.count < count


@pytest.mark.parametrize("name", ["a \"quoted\" 'name'", "back\\slash\\n", "{braces} é 图", '"""'])
def test_any_name_of_a_folder_can_be_written(tmp_path, name):
    put_voc(tmp_path / name, ["a", "b", "c"])
    recipe, _ = write(tmp_path / name, tmp_path / name / "run" / "config.py")
    written = read_config_file(tmp_path / name / "run" / "config.py")
    assert written.photos == str(tmp_path / name) and written.reading is None
    assert written.config.data.train == (recipe.photographs.reading.specs["all"],)


def test_photographs_that_moved_need_one_line(tmp_path):
    put_voc(tmp_path / "old" / "train", ["a", "b"])
    put_voc(tmp_path / "old" / "test", ["c"])
    path = tmp_path / "run" / "config.py"
    _, text = write(tmp_path / "old", path)
    path.write_text(text.replace(f'PHOTOS = "{tmp_path}/old"', f'PHOTOS = "{tmp_path}/new"'))
    data = load_config(str(path)).data
    assert data.train == (f"voc:{tmp_path}/new:train",) and data.test == (
        f"voc:{tmp_path}/new:test",
    )


def test_a_file_that_no_recipe_was_written_as(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("from configs import quickstart\nget_config = quickstart.get_config\n")
    assert read_config_file(path) is None
    path.write_text("PHOTOS = nowhere")
    with pytest.raises(ConfigError, match="cannot load .*config.py: NameError"):
        read_config_file(path)
