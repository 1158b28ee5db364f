"""Sums of the compiler's estimates, compared with sums by hand of the stored texts."""

import re

import pytest
from compiled_programs import read_program

from ssd_jax.ahead_of_time import cost, hlo
from ssd_jax.ahead_of_time.collectives import Collective


def by_kind(name):
    operations = cost.estimate(read_program(name)).operations
    return {each.kind: each for each in operations}


def test_the_body_of_a_loop_counts_as_often_as_it_runs():
    """Seven trips of a copy of 1,824 cycles and a fusion of 2,587; a sum of 2,086 before them."""
    estimate = cost.estimate(read_program("counted"))
    assert estimate.cycles == 7 * (1824 + 2587) + 2086
    (loop,) = estimate.loops
    assert (loop.trips, loop.cycles, loop.scope) == (7, 1824 + 2587, "mine")


def test_a_loop_of_unknown_length_counts_once_and_one_within_it_as_often_as_it_runs():
    estimate = cost.estimate(read_program("unknown"))
    outer, inner = estimate.loops
    assert (outer.trips, inner.trips, inner.cycles) == (None, 5, 2585)
    assert outer.cycles == 2086 + 2086 + 5 * 2585  # condition, the sum in the body, the inner loop
    assert estimate.cycles == 2090 + outer.cycles


def test_an_operation_without_an_estimate_has_the_bytes_that_it_touches():
    sort = by_kind("sort")["sort"]  # values and indices, of which only one array is in HBM
    array = 512 * 8192 * 4
    assert (sort.cycles, sort.bytes, sort.hbm_bytes) == (None, 4 * array, array)


def test_a_gather_reads_what_it_returns_and_not_the_table():
    assert by_kind("gather")["gather"].hbm_bytes == 2 * 30_000 * 128 * 4


def test_a_copy_in_the_background_counts_where_it_starts():
    operations = by_kind("gather")
    assert operations["copy-start"].hbm_bytes == 4096 * 128 * 4  # the table
    assert operations["copy-done"].hbm_bytes == 0


def test_a_synchronous_sum_of_gradients():
    estimate = cost.estimate(read_program("all_reduce"))
    assert estimate.collectives == [
        Collective("all-reduce", "backbone backward", 1, 512 * 512 * 4, estimate.cycles, True, 0)
    ]


def test_an_asynchronous_sum_hides_behind_four_products():
    estimate = cost.estimate(read_program("asynchronous"))
    assert estimate.cycles == 4 * 21_340
    assert estimate.collectives == [
        Collective("all-reduce", "other", 1, 1024 * 1024 * 4, 0, False, 4 * 21_340)
    ]


@pytest.mark.parametrize(
    "exchange",
    [
        "%s = f32[256] all-reduce-start(%x)",
        "%s = (f32[256], f32[256], u32[]) all-reduce-start(%x)",
        "%s = ((f32[256]), f32[256], s32[]) async-start(%x), calls=%around",
    ],
)
def test_an_exchange_that_is_started_and_ended(exchange):
    done = "async-done" if "async-start" in exchange else "all-reduce-done"
    text = f"""
%around (x: f32[256]) -> f32[256] {{
  %x = f32[256] parameter(0)
  ROOT %r = f32[256] all-reduce(%x)
}}
ENTRY %main (x: f32[256]) -> f32[256] {{
  %x = f32[256] parameter(0)
  %a = f32[256] negate(%x), backend_config={{"estimated_cycles":"100"}}
  {exchange}
  %b = f32[256] negate(%x), backend_config={{"estimated_cycles":"30"}}
  ROOT %d = f32[256] {done}(%s)
}}"""
    (found,) = cost.estimate(hlo.parse(text)).collectives[:1]
    assert found == Collective("all-reduce", "other", 1, 1024, 100, False, 30)


def test_the_most_expensive_branch_counts():
    text = """
%cheap (x: f32[256]) -> f32[256] {
  %x = f32[256] parameter(0)
  ROOT %a = f32[256] negate(%x), backend_config={"estimated_cycles":"10"}
}
%costly (x: f32[256]) -> f32[256] {
  %x = f32[256] parameter(0)
  ROOT %a = f32[256] negate(%x), backend_config={"estimated_cycles":"90"}
}
ENTRY %main (n: s32[], x: f32[256]) -> f32[256] {
  %n = s32[] parameter(0)
  %x = f32[256] parameter(1)
  ROOT %c = f32[256] conditional(%n, %x, %x), branch_computations={%cheap, %costly}
}"""
    assert cost.estimate(hlo.parse(text)).cycles == 90


def test_an_operation_without_a_name_belongs_to_what_it_fuses_or_reads():
    text = """
%fused (x: f32[256]) -> f32[256] {
  %x = f32[256] parameter(0)
  %a = f32[256] negate(%x), metadata={op_name="jit(f)/match/neg"}
  ROOT %b = f32[256] negate(%a), metadata={op_name="jit(f)/match/neg"}
}
ENTRY %main (x: f32[256]) -> f32[256] {
  %x = f32[256] parameter(0)
  %plain = f32[256] negate(%x)
  %fusion = f32[256] fusion(%x), calls=%fused, metadata={op_name="jit(f)/squeeze"}
  ROOT %copy = f32[256] copy(%fusion)
}"""
    operations = cost.estimate(hlo.parse(text)).operations
    assert [each.scope for each in operations] == ["other", "match", "match"]


def test_without_loops_the_sum_is_that_of_all_estimates():
    module = read_program("sort")
    text = "".join(each.attributes for each in module.entry.values())
    flat = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', text)))
    assert cost.estimate(module).cycles == flat == 2 * 56_078 + 1536
