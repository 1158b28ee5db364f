"""Validation before compilation: what only the model, the data and the devices can tell.

The config itself has passed `config.validate` by then.
"""

import difflib

import jax
from ml_collections import ConfigDict

from ssd_jax import optim, parallel, step
from ssd_jax.errors import ConfigError


def build(
    config: ConfigDict,
    train_classes: tuple[str, ...],
    test_classes: tuple[str, ...],
    axis_name: str | None = None,
) -> step.Detector:
    """`step.build` for the classes of the data, without the background.

    Raises ConfigError with a line for everything that does not fit: batch and devices, classes of
    the sets, model and images, priors' tables and maps, patterns of parameters' names.
    """
    problems = class_problems(config, train_classes, test_classes)
    try:
        parallel.check_batch(config.batch_size)
    except ConfigError as error:
        problems.append(str(error))
    try:
        detector = step.build(config, len(train_classes) + 1, axis_name)
        problems += _pattern_problems(config.optim, parameter_names(detector))
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return detector


def class_problems(
    config: ConfigDict, train_classes: tuple[str, ...], test_classes: tuple[str, ...]
) -> list[str]:
    """Why a detector of the training set's classes cannot be scored on the test set's."""
    named, train, test = (
        tuple(names) for names in (config.data.classes, train_classes, test_classes)
    )
    problems = []
    if not train:
        problems.append(f"config.data.train={config.data.train} has no class: name another set")
    if named and named != train:
        problems.append(
            f"config.data.classes={named} are not those of config.data.train: {train}; "
            "write () to take these"
        )
    if lacking := [name for name in test if name not in train]:
        problems.append(
            f"config.data.test={config.data.test} has {', '.join(lacking)}, which "
            "config.data.train lacks: test on the same classes"
        )
    elif test != train[: len(test)]:
        problems.append(
            f"config.data.test={config.data.test} orders the classes as {', '.join(test)}, the "
            f"training set as {', '.join(train)}: give both one order in config.data.classes"
        )
    return problems


def parameter_names(detector: step.Detector) -> list[str]:
    """The name of each parameter, as `backbone/conv1_1/kernel`, without computing any."""
    params = step.abstract_state(detector).params
    return jax.tree.leaves(optim.names(params))


def _pattern_problems(config: ConfigDict, names: list[str]) -> list[str]:
    """Patterns that no parameter matches, and a network that is frozen as a whole."""
    problems = []
    for field in ("decayed", "frozen"):
        for pattern in config[field]:
            if not any(optim.fits(name, (pattern,)) for name in names):
                (nearest,) = difflib.get_close_matches(pattern, names, n=1, cutoff=0)
                problems.append(
                    f"config.optim.{field} has {pattern!r}, which no parameter matches: names are "
                    f"as {nearest}, and * is any part"
                )
    if all(optim.fits(name, config.frozen) for name in names):
        problems.append(
            f"config.optim.frozen={config.frozen} leaves no parameter to train: take some away"
        )
    return problems
