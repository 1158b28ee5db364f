"""The parser of compiled texts."""

import pytest
from compiled_programs import read_program

from ssd_jax.ahead_of_time import hlo

TEXT = """HloModule test, is_scheduled=true
FileNames
1 "a file with a } and an = in its name"

%fused (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)S(1)} parameter(0)
  ROOT %negate.1 = f32[8,128]{1,0:T(8,128)S(1)} negate(%p)
}

ENTRY %main.2 (x: f32[8,128], /*index=1*/n: s32[]) -> (f32[8,128], s32[]) {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %n = s32[]{:T(128)} parameter(1), metadata={op_name="n"}
  %both = (f32[8,128]{1,0:T(8,128)S(1)}, /*index=1*/bf16[3]{0:T(256)(2,1)}) fusion(%x, /*i*/%n), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/loss/say \\"a(b)\\"" stack_frame_id=7}, backend_config={"window_config":{"estimated_cycles":"1825"}}
  %branch = f32[8,128]{1,0} conditional(%n, %x, %x), branch_computations={%fused, %other.1}
  ROOT %result = (f32[8,128]{1,0:T(8,128)}, s32[]) tuple(%x, %n)
}
"""  # noqa: E501


def test_an_instruction_is_taken_apart():
    module = hlo.parse(TEXT)
    assert list(module.computations) == ["fused", "main.2"]
    assert list(module.entry) == ["x", "n", "both", "branch", "result"]
    both = module.entry["both"]
    assert both.shape.startswith("(f32[8,128]") and both.shape.endswith("(2,1)})")
    assert both.kind == "fusion" and both.operands == ("x", "n") and not both.is_root
    assert both.called == {"calls": ("fused",)} and both.estimated_cycles == 1825
    assert both.op_name == 'jit(f)/loss/say \\"a(b)\\"'
    assert module.entry["branch"].called == {"branch_computations": ("fused", "other.1")}
    assert hlo.root(module.entry).name == "result"
    assert module.entry["x"].op_name == "" and module.entry["x"].estimated_cycles is None


def test_bytes_are_those_of_every_array_and_of_hbm():
    shape = hlo.parse(TEXT).entry["both"].shape
    assert hlo.array_bytes(shape) == [8 * 128 * 4, 3 * 2]
    assert hlo.hbm_bytes(shape) == [0, 3 * 2]  # S(1) is the chip's own memory
    assert hlo.array_bytes("(pred[], s4[3,3]{1,0}, f8e4m3fn[5], c64[2])") == [1, 4, 5, 16]
    assert hlo.array_bytes("token[]") == [0]


@pytest.mark.parametrize("text", ["", "HloModule test\n", TEXT.replace("ENTRY ", "")])
def test_a_text_without_an_entry_is_refused(text):
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse(text)


def test_a_line_that_is_no_instruction_is_refused():
    with pytest.raises(ValueError, match="not an instruction"):
        hlo.parse(TEXT.replace("negate(%p)", "negate"))


@pytest.mark.parametrize("name", ["counted", "unknown", "mining", "all_reduce", "asynchronous"])
def test_every_name_in_a_program_is_found(name):
    module = read_program(name)
    for computation in module.computations.values():
        for instruction in computation.values():
            assert all(operand in computation for operand in instruction.operands)
            called = [name for names in instruction.called.values() for name in names]
            assert all(name in module.computations for name in called)
