"""Names of parameters, as `backbone/conv1_1/kernel`, and shell patterns that select some of them.

A pattern's `*` stands for slashes too: `*/bias`, `backbone/conv1_*`.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import jax
import numpy as np

# Path of a leaf, as jax.tree.map_with_path gives it -> its name.
parameter_name = partial(jax.tree_util.keystr, simple=True, separator="/")


def parameter_names(params: Any) -> Any:
    """The name of each parameter, in the shape of the tree."""
    return jax.tree.map_with_path(lambda path, _: parameter_name(path), params)


def matches_any(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the shell patterns matches the name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def parameter_mask(params: Any, patterns: Sequence[str]) -> Any:
    """True for each parameter whose name one of the patterns matches, in the shape of the tree."""
    return jax.tree.map(lambda name: matches_any(name, patterns), parameter_names(params))


def flatten_parameters(params: Any) -> dict[str, np.ndarray]:
    """A nested dict of arrays -> {"backbone/conv1_1/kernel": array}, as NumPy."""
    return {
        parameter_name(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)
    }
