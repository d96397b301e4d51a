"""Bytes and loops of compiled programs, read from their text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnn_research.tools.compiling.program import Program, in_memory, size

LOOP = """\
HloModule loop, is_scheduled=true

%cond (p: (s32[], f32[5,128], f32[8,128])) -> pred[] {
  %p = (s32[], f32[5,128], f32[8,128]) parameter(0)
  %limit = s32[] constant(5)
  %n = s32[] get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%n, %limit), direction=LT
}

%retiled (q: f32[5,128]) -> f32[5,128] {
  %q = f32[5,128] parameter(0)
  ROOT %again = f32[5,128] copy(%q)
}

%row (a: f32[5,128], at: s32[]) -> f32[128] {
  %a = f32[5,128] parameter(0)
  %at = s32[] parameter(1)
  %zero = s32[] constant(0)
  %other = f32[5,128] fusion(%a), kind=kLoop, calls=%retiled
  %slice = f32[1,128] dynamic-slice(%other, %at, %zero), dynamic_slice_sizes={1,128}
  ROOT %flat = f32[128] bitcast(%slice)
}

%write (b: f32[5,128], value: f32[128], place: s32[]) -> f32[5,128] {
  %b = f32[5,128] parameter(0)
  %value = f32[128] parameter(1)
  %place = s32[] parameter(2)
  %none = s32[] constant(0)
  %as_row = f32[1,128] bitcast(%value)
  ROOT %updated = f32[5,128] dynamic-update-slice(%b, %as_row, %place, %none)
}

%body (r: (s32[], f32[5,128], f32[8,128])) -> (s32[], f32[5,128], f32[8,128]) {
  %r = (s32[], f32[5,128], f32[8,128]) parameter(0)
  %k = s32[] get-tuple-element(%r), index=0
  %stack = f32[5,128] get-tuple-element(%r), index=1
  %kept = f32[8,128] get-tuple-element(%r), index=2
  %taken = f32[128] fusion(%stack, %k), kind=kLoop, calls=%row
  %written = f32[5,128] fusion(%stack, %taken, %k), kind=kLoop, calls=%write
  ROOT %next = (s32[], f32[5,128], f32[8,128]) tuple(%k, %written, %kept)
}

ENTRY %main (x: (s32[], f32[5,128], f32[8,128])) -> (s32[], f32[5,128], f32[8,128]) {
  %x = (s32[], f32[5,128], f32[8,128]) parameter(0)
  ROOT %loop = (s32[], f32[5,128], f32[8,128]) while(%x), condition=%cond, body=%body
}
"""


def test_a_loop_counts_as_often_as_it_runs_and_a_slice_of_a_stack_as_a_slice():
    row, count, flag = 128 * 4, 4, 1
    read = row + count + row  # a row of the stack and its number in, the row out
    write = row + count + row  # the row and its number in, a row of the stack out
    assert Program(LOOP).traffic() == 5 * (read + write + flag + 2 * count)


def test_a_loop_of_unknown_length_is_not_guessed():
    with pytest.raises(RuntimeError, match="nothing says how often the loop loop runs"):
        Program(LOOP.replace("constant(5)", "parameter(1)")).traffic()


@pytest.mark.parametrize(
    ("type_", "bytes_", "outside"),
    [
        ("f32[3,5]", 60, 60),
        ("bf16[3,5]{1,0}", 30, 30),
        ("pred[7]", 7, 7),
        ("f32[]", 4, 4),
        # Tiles of 8 by 128 numbers: the innermost axis is the first that the layout names.
        ("f32[3,5]{1,0:T(8,128)}", 8 * 128 * 4, 8 * 128 * 4),
        ("f32[2,300,3]{1,2,0:T(8,128)}", 2 * 384 * 8 * 4, 2 * 384 * 8 * 4),
        ("bf16[16,128]{1,0:T(8,128)(2,1)S(1)}", 16 * 128 * 2, 0),
        ("(f32[8,128]{1,0:T(8,128)S(1)}, f32[128]{0:T(128)}, u32[]{:S(2)})", 4096 + 512 + 4, 512),
    ],
)
def test_bytes_of_a_type(type_, bytes_, outside):
    assert (size(type_), in_memory(type_)) == (bytes_, outside)


def test_the_traffic_of_a_program_for_cpus_is_what_xla_counts():
    def step(x, w):
        return jnp.tanh(x @ w).sum(0), (x @ w).max()

    compiled = jax.jit(step).lower(np.ones((64, 32), np.float32), np.ones((32, 16), np.float32)).compile()
    theirs = compiled.cost_analysis()["bytes accessed"]
    assert Program(compiled.as_text()).traffic() == pytest.approx(theirs, rel=0.25)


def test_a_fusion_may_end_in_one_instruction_of_several_results():
    """As XLA's search for the largest value of a window and its place does on GPUs."""
    program = Program(
        """\
HloModule places

%window (x: f32[8,128]) -> (f32[4,128], s32[4,128]) {
  %x = f32[8,128] parameter(0)
  %index = s32[8,128] iota(), iota_dimension=0
  %low = f32[] constant(-inf)
  %zero = s32[] constant(0)
  ROOT %best = (f32[4,128], s32[4,128]) reduce-window(%x, %index, %low, %zero), window={size=2x1 stride=2x1}
}

ENTRY %main (images: f32[8,128]) -> (f32[4,128], s32[4,128]) {
  %images = f32[8,128] parameter(0)
  ROOT %pooled = (f32[4,128], s32[4,128]) fusion(%images), kind=kLoop, calls=%window
}
"""
    )
    assert program.traffic() == 4 * 128 * (8 + 4 + 4)
