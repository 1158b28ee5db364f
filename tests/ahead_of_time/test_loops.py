"""Trip counts, read from texts of XLA:TPU and from small ones written by hand."""

import pytest
from compiled_programs import read_program

from ssd_jax.ahead_of_time import cost, hlo
from ssd_jax.ahead_of_time.loops import trip_count

LOOP = """HloModule test
%body (state: (s32[], f32[2])) -> (s32[], f32[2]) {{
  %state = (s32[], f32[2]{{0}}) parameter(0)
  %counter = s32[] get-tuple-element(%state), index=0
  %value = f32[2]{{0}} get-tuple-element(%state), index=1
  %one = s32[] constant({step})
  %next = s32[] {change}(%one, %counter)
  ROOT %result = (s32[], f32[2]{{0}}) tuple(%next, %value)
}}
%condition (state: (s32[], f32[2])) -> pred[] {{
  %state = (s32[], f32[2]{{0}}) parameter(0)
  %counter = s32[] get-tuple-element(%state), index=0
  %end = s32[] constant(10)
  ROOT %test = pred[] compare(%counter, %end), direction={direction}
}}
ENTRY %main (x: f32[2], n: s32[]) -> (s32[], f32[2]) {{
  %x = f32[2]{{0}} parameter(0)
  %n = s32[] parameter(1)
  %zero = s32[] constant(3)
  %start = s32[] copy(%{start})
  %state = (s32[], f32[2]{{0}}) tuple(%start, %x)
  ROOT %loop = (s32[], f32[2]{{0}}) while(%state), condition=%condition, body=%body{known}
}}
"""
KNOWN = ', backend_config={"known_trip_count":{"n":"5"}}'


@pytest.mark.parametrize(
    ("trips", "changes"),
    [
        (7, {}),  # 3 … 9
        (4, {"step": 2}),  # 3, 5, 7, 9
        (5, {"known": KNOWN}),
        (None, {"start": "n"}),
        (None, {"change": "multiply"}),
        (None, {"step": 0}),
        (None, {"direction": "NE"}),
    ],
)
def test_a_loop_between_constants_is_counted_and_no_other(trips, changes):
    usual = {"step": 1, "change": "add", "direction": "LT", "start": "zero", "known": ""}
    module = hlo.parse(LOOP.format(**usual | changes))
    assert trip_count(module, module.entry, module.entry["loop"]) == trips


def test_a_counter_that_the_compiler_copies_is_followed():
    """Mining finds its threshold in 31 bits, and the last tie among 1,917 priors in 11."""
    loops = cost.estimate(read_program("mining")).loops
    assert [(each.scope, each.trips) for each in loops] == [("mine", 31), ("mine", 11)]
