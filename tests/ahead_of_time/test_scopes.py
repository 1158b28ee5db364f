"""Names of operations as JAX writes them."""

import re

import jax
import micro
import pytest

from ssd_jax.ahead_of_time.program import Request, lower_program
from ssd_jax.ahead_of_time.scopes import BACKWARD, SCOPES, scope_of


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("jit(step)/jvp(loss)/SSD/backbone/conv1_1/conv_general_dilated", "backbone"),
        ("jit(step)/transpose(jvp(loss))/SSD/heads/transpose()/add", "heads backward"),
        ("jit(step)/jvp(loss)/loss/vmap(mine)/while/body/closed_call/or", "mine"),
        ("jit(step)/jvp(loss)/vmap()/reduce_sum", "loss"),
        ("jit(_fun)/shard_map/vmap(match)/gather", "match"),
        ("jit(update)/mul", "update"),
        ("jit(step)/vmap(jit(_where))/select_n", None),
        ("jit(step)/dynamic_update_slice", None),
        ("", None),
    ],
)
def test_the_innermost_scope_counts(name, scope):
    assert scope_of(name) == scope


def test_every_scope_is_in_a_program():
    """Of the step and of prediction; without its scope, a part would be unnamed."""
    found = set()
    for what in ("train", "predict"):
        request = Request(micro.get_config(), what, 2, 5, 16)
        text = lower_program(request, jax.devices()).as_text(debug_info=True)
        found |= {scope_of(name) for name in re.findall(r'loc\("([^"]*)"', text)}
    found = {scope.removesuffix(BACKWARD) for scope in found if scope}
    assert found == set(SCOPES)
