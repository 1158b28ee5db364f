"""What a run starts from: detectors, backbones, other classes, and weights that do not fit."""

import os
import re

import jax
import micro
import numpy as np
import pytest

from ssd_jax import evaluate, training
from ssd_jax.data import sources
from ssd_jax.detector import build_detector
from ssd_jax.errors import CheckpointError, ConfigError
from ssd_jax.parameter_names import flatten_parameters
from ssd_jax.runs.load import load_run
from ssd_jax.runs.results import PRIMARY_METRIC
from ssd_jax.train_step import inference_variables, init_state
from ssd_jax.weights import files, initialize
from ssd_jax.weights.import_run import import_run
from ssd_jax.weights.imported import ImportedWeights
from ssd_jax.weights.remap import detector_part, fit_to_model

SHAPES = ("circle", "square", "triangle", "star")  # an order that the data set does not have


def tree(state):
    return flatten_parameters(inference_variables(state)["params"]) | flatten_parameters(
        state.batch_stats
    )


def imported(state, classes=(), priors=None):
    return ImportedWeights(
        flatten_parameters(state.params), flatten_parameters(state.batch_stats), classes, priors
    )


def equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.fixture(scope="module")
def classes():
    config = micro.get_config()
    return sources.make_source(config.data.train, config).classes


@pytest.fixture(scope="module")
def trained(classes):
    """Another state than the one that a run of the same config would start with."""
    return init_state(build_detector(micro.get_config(seed=7), len(classes) + 1))


@pytest.fixture(scope="module")
def weights(tmp_path_factory, trained, classes):
    """Those as a file of our names."""
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    files.write_npz(path, imported(trained, classes))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, weights):
    """A run made of that file."""
    folder = tmp_path_factory.mktemp("runs") / "imported"
    import_run(str(weights), "npz", micro.get_config(), folder)
    return folder


def test_an_imported_run_holds_the_weights_of_the_file(run, trained, classes):
    detector, variables, names, at, _ = load_run(run)
    assert names == classes and at == 0
    equal(flatten_parameters(variables["params"]), flatten_parameters(trained.params))
    equal(flatten_parameters(variables["batch_stats"]), flatten_parameters(trained.batch_stats))
    own = build_detector(micro.get_config(), 2).priors.boxes
    np.testing.assert_array_equal(detector.priors.boxes, own)


def test_priors_of_a_file_are_the_runs_and_the_configs_those_of_training(
    trained, classes, tmp_path, capsys
):
    detector = build_detector(micro.get_config(), len(classes) + 1)
    shifted = detector.priors.boxes + np.float32(0.005)
    files.write_npz(tmp_path / "x.npz", imported(trained, classes, shifted))
    import_run(str(tmp_path / "x.npz"), "npz", micro.get_config(), tmp_path / "run")
    np.testing.assert_array_equal(load_run(tmp_path / "run")[0].priors.boxes, shifted)
    config = micro.get_config(init__source=str(tmp_path / "run"))
    initialize.initial_state(detector._replace(config=config), classes)
    assert "priors       those of the config" in capsys.readouterr().err


def test_an_imported_run_is_evaluated_and_fine_tuned_from(run, tmp_path, capsys):
    assert PRIMARY_METRIC in evaluate.evaluate_run(run, micro.get_config())
    training.train_and_evaluate(micro.get_config(init__source=str(run)), tmp_path)
    assert f"weights    {run}\n  backbone     loaded" in capsys.readouterr().err


def test_the_first_state_is_the_file_with_a_fresh_optimizer_and_average(weights, trained, classes):
    config = micro.get_config(init__source=str(weights), init__format="npz", optim__ema_decay=0.9)
    state = initialize.initial_state(build_detector(config, len(classes) + 1), classes).state
    equal(tree(state), tree(trained))
    equal(flatten_parameters(state.ema["params"]), flatten_parameters(trained.params))
    assert int(state.step) == 0 and not any(np.any(x) for x in jax.tree.leaves(state.opt_state))


def test_of_a_backbone_the_heads_are_new(weights, trained, classes, capsys):
    config = micro.get_config(init__source=str(weights), init__format="npz", init__what="backbone")
    detector = build_detector(config, len(classes) + 1)
    state, random = (
        tree(initialize.initial_state(detector, classes).state),
        tree(init_state(detector)),
    )
    for name, value in state.items():
        origin = random if name.startswith("heads/") else tree(trained)
        np.testing.assert_array_equal(value, origin[name])
    assert "heads        new" in capsys.readouterr().err


def test_classes_of_the_same_name_keep_their_columns_and_others_start_at_the_mean():
    """Two priors a cell; theirs: cat, dog. Ours: dog, eel."""
    theirs = {"heads/classification_0/bias": np.array([1, 2, 3, 11, 12, 13], np.float32),
              "heads/localization_0/bias": np.arange(8, dtype=np.float32)}  # fmt: skip
    like = {"heads/classification_0/bias": np.array([-1, -2, -3, -4, -5, -6], np.float32),
            "heads/localization_0/bias": np.zeros(8, np.float32)}  # fmt: skip
    found = fit_to_model(ImportedWeights(theirs, {}, ("cat", "dog")), like, ("dog", "eel"))
    bias = found.tensors["heads/classification_0/bias"]
    np.testing.assert_array_equal(bias, [1, 3, 2.5, 11, 13, 12.5])
    np.testing.assert_array_equal(found.tensors["heads/localization_0/bias"], np.arange(8))
    assert found.report == [
        "  heads        boxes, background and 1 of 2 classes by name",
        "  new classes  eel: each as the mean of the file's",
    ]
    np.testing.assert_array_equal(like["heads/classification_0/bias"], [-1, -2, -3, -4, -5, -6])


@pytest.mark.parametrize(("ours", "kept"), [(("a",), [1, 2.5]), (("a", "b"), [1, 2, 3])])
def test_a_file_without_class_names_gives_all_columns_or_their_mean(ours, kept):
    theirs = {"heads/classification_0/bias": np.array([1, 2, 3], np.float32)}
    like = {"heads/classification_0/bias": -np.arange(1, len(ours) + 2, dtype=np.float32)}
    found = fit_to_model(ImportedWeights(theirs, {}), like, ours)
    np.testing.assert_array_equal(found.tensors["heads/classification_0/bias"], kept)
    assert ("by position" if len(ours) == 2 else "0 of 1 classes") in found.report[0]


def test_a_run_of_other_classes_starts_another(run, classes, capsys):
    config = micro.get_config(init__source=str(run))
    detector = build_detector(config, 3)
    state, is_detector, _ = initialize.initial_state(detector, (classes[2], "cat"))
    assert "1 of 2 classes by name" in capsys.readouterr().err and not is_detector
    assert state.params["heads"]["classification_0"]["bias"].shape == (3 * 4,)


def broken(change):
    """The file's tensors after a change of one of them."""

    def apply(weights):
        tensors = dict(weights.params)
        change(tensors)
        return weights._replace(params=tensors)

    return apply


KERNEL = "backbone/stem/kernel"
BREAKS = {
    "missing": (lambda t: t.pop(KERNEL), "stem/kernel is absent, expected [3, 3, 12, 4]"),
    "extra": (lambda t: t.update({"backbone/more/bias": np.zeros(3, np.float32)}),
              "backbone/more/bias [3] is not of this model"),
    "shape": (lambda t: t.update({KERNEL: t[KERNEL][..., :2]}),
              "stem/kernel is [3, 3, 12, 2], expected [3, 3, 12, 4]"),
    "nan": (lambda t: t.update({KERNEL: t[KERNEL] * np.float32(np.nan)}), "not finite"),
    "infinite": (lambda t: t.update({KERNEL: t[KERNEL] + np.float32(np.inf)}), "not finite"),
    "integer": (lambda t: t.update({KERNEL: t[KERNEL].astype(np.int32)}), "not finite"),
    "scalar": (lambda t: t.update({"heads/classification_0/bias": np.ones((), np.float32)}),
               "classification_0/bias is [], expected"),
    "columns": (lambda t: t.update({"heads/classification_0/bias": np.zeros(7, np.float32)}),
                "classification_0/bias is [7], expected"),
    "empty": (lambda t: t.clear(), "tensors do not fit the model"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("what", ["detector", "backbone"])
def test_weights_that_do_not_fit_are_named(kind, what, trained, classes):
    change, message = BREAKS[kind]
    bad, like = broken(change)(imported(trained, classes)), tree(trained)
    if what == "backbone" and kind in ("scalar", "columns"):
        assert fit_to_model(bad, like, classes, what)  # heads are not looked at
        return
    with pytest.raises(CheckpointError, match=re.escape(message)):
        fit_to_model(bad, like, classes, what)


@pytest.mark.parametrize("kind", BREAKS)
def test_no_run_folder_is_left_of_weights_that_do_not_fit(kind, trained, classes, tmp_path):
    path = tmp_path / "bad.npz"
    files.write_npz(path, broken(BREAKS[kind][0])(imported(trained, classes)))
    with pytest.raises(CheckpointError, match=r"bad\.npz") as error:
        import_run(str(path), "npz", micro.get_config(), tmp_path / "run")
    assert len(str(error.value)) < 500 and os.listdir(tmp_path) == ["bad.npz"]


@pytest.mark.parametrize("priors", [np.zeros((3, 4), np.float32), np.full((1, 4), np.nan)])
def test_priors_of_another_model_are_refused(priors, trained, classes, tmp_path):
    detector = build_detector(micro.get_config(), 2)
    if len(priors) == 1:
        priors = np.repeat(priors, len(detector.priors.boxes), 0)
    files.write_npz(tmp_path / "x.npz", imported(trained, classes, priors))
    with pytest.raises(
        CheckpointError, match="its priors are (not those of the config|[0-9]+, and)"
    ):
        import_run(str(tmp_path / "x.npz"), "npz", micro.get_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_classes_come_from_the_file_or_the_config_and_must_agree(trained, classes, tmp_path):
    anonymous, named = tmp_path / "anonymous.npz", tmp_path / "named.npz"
    files.write_npz(anonymous, imported(trained))
    files.write_npz(named, imported(trained, classes))
    other = micro.get_config(data__classes=SHAPES)
    with pytest.raises(ConfigError, match=r"give them as config\.data\.classes"):
        import_run(str(anonymous), "npz", micro.get_config(), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"config\.data\.classes \('circle'"):
        import_run(str(named), "npz", other, tmp_path / "run")
    with pytest.raises(CheckpointError, match="tensors do not fit"):
        fewer = micro.get_config(data__classes=SHAPES[:2])
        import_run(str(anonymous), "npz", fewer, tmp_path / "run")
    import_run(str(anonymous), "npz", other, tmp_path / "run")
    assert load_run(tmp_path / "run")[2] == SHAPES
    with pytest.raises(ConfigError, match="holds a run"):
        import_run(str(anonymous), "npz", other, tmp_path / "run")


def test_a_source_that_is_not_there_or_of_no_kind_is_refused(weights, tmp_path):
    config = micro.get_config()
    with pytest.raises(ConfigError, match=r"in config\.init\.format"):
        initialize.load_source(str(weights), "", config)
    with pytest.raises(CheckpointError, match="is not a run"):
        initialize.load_source(str(tmp_path), "", config)
    for kind in ("npz", "tflite", "caffe"):
        with pytest.raises(CheckpointError, match="nowhere"):
            initialize.load_source(str(tmp_path / "nowhere"), kind, config)
        with pytest.raises(ConfigError, match="is a folder: a run has no"):
            initialize.load_source(str(tmp_path), kind, config)
    with pytest.raises(CheckpointError, match=r"weights\.npz, read as caffe"):
        initialize.load_source(str(weights), "caffe", config)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("heads/classification_0/bias", "heads"),
        ("backbone/conv5_3/kernel", "backbone"), ("backbone/fc7/bias", "dense layers"),
        ("backbone/conv4_3_norm/scale", "extra layers"),
        ("backbone/conv6_1/kernel", "extra layers"), ("backbone/conv10_2/bias", "extra layers"),
        ("backbone/Conv2d_13_pointwise/kernel", "backbone"),
        ("backbone/Conv2d_13_pointwise_BatchNorm/mean", "backbone"),
        ("backbone/Conv2d_13_pointwise_1_Conv2d_2_1x1_192/kernel", "extra layers"),
        ("backbone/Conv2d_13_pointwise_2_Conv2d_5_3x3_s2_96_BatchNorm/var", "extra layers"),
        ("backbone/extra1_squeeze/kernel", "extra layers"), ("backbone/stem/kernel", "backbone"),
    ],
)  # fmt: skip
def test_groups(name, group):
    assert detector_part(name) == group


def test_ninety_columns_without_names_are_cocos(tmp_path, capsys):
    for count in (90, 89):
        state = init_state(build_detector(micro.get_config(), count + 1))
        files.write_npz(tmp_path / f"{count}.npz", imported(state))
    import_run(str(tmp_path / "90.npz"), "npz", micro.get_config(), tmp_path / "run")
    names = load_run(tmp_path / "run")[2]
    assert len(names) == 90 and (names[0], names[17], names[89]) == ("person", "dog", "toothbrush")
    assert "COCO's, by the number of columns" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"no class names: give them as config\.data\.classes"):
        import_run(str(tmp_path / "89.npz"), "npz", micro.get_config(), tmp_path / "other")
    assert not (tmp_path / "other").exists()
