"""`docs/accelerators.md` from saved analyses: tables, and how to read them."""

from collections.abc import Callable

from ssd_jax.ahead_of_time.analysis import Analysis
from ssd_jax.ahead_of_time.chips import CHIPS
from ssd_jax.ahead_of_time.report import NOT_MEASURED, floor_ms
from ssd_jax.ahead_of_time.scopes import BACKWARD, OTHER

_HEAD = f"""# Estimates of the compiler for TPUs

**{NOT_MEASURED}** They come from the compiler for TPUs, which runs on any machine. It is the one that compiles
the program on a pod.

```bash
pip install "jax[tpu]"
python -m scripts.compile_ahead --config=configs/ssd300_vgg16_voc.py --topology=v5e:4x4 \\
  --config.model.dtype=bfloat16 [--per_device=32] [--what=train|predict] [--fit] [--json=FILE]
```

The command compiles the program that this config runs on such a slice, by `pmap` or `jit` as the config says, and
needs minutes. It prints what this page has and more: the ten most expensive operations, loops, collectives. `--fit`
finds the largest batch that a device holds. This page is made by `python -m scripts.compile_ahead_report`, which
compiles each row whose file in [`accelerators/`](accelerators/) is absent. All rows use bfloat16, and 16 padded boxes
an image.
"""
_READING = """## How to read it

- **ms, images/s:** the sum of the compiler's estimated cycles of each operation, a loop's body as often as it runs,
  at the clock of the chip. The true time is longer: operations without an estimate and exchanges between chips come
  on top, and a loop of unknown length counts once.
- **of peak:** the program's FLOP by this time and the published peak.
- **memory:** the peak of a device in MiB of 2^20 bytes, as the compiler allocates it. `code` is part of the program,
  not of this peak.
- **without an estimate:** XLA:TPU estimates no sort and top-k, gather, scatter, select-and-scatter (the gradient of a
  max pooling), concatenation, custom call or collective. `at least` is the time that their bytes of HBM need at full
  bandwidth. A gather counts what it returns. Copies that run in the background are left out.
- **parts:** by the innermost named scope of an operation, forward and backward together. A fusion without a scope
  has that of most of what it fuses.
"""
_TRUST = """## What to trust

- The same program gives the same numbers in every process, so a difference of 1 % between two programs of one config
  is a difference. Compare the operations without an estimate too: a change may move time there.
- Memory, the list of collectives, and whether a program compiles and fits are facts of the compiled program, for
  this version of libtpu.
- Times are plausible, no more. Compiled for v5e, a product of two 8,192 x 8,192 matrices in bfloat16 has 88 % of
  peak, a convolution of 256 channels 98 %, and a stream through HBM 79 % of the bandwidth. None was run.
- An operation in a loop costs at least 1,800 cycles, 1.2 µs on v5e, however small it is.
- Times of whole steps leave out the host, the input, and the exchange between chips.
"""


def render(analyses: dict[str, Analysis]) -> str:
    """The page, in Markdown; `analyses` by name, as saved by `scripts.compile_ahead`."""
    rows = sorted(analyses.values(), key=lambda a: (a["what"] != "train", a["config"], _how(a)))
    tables = [
        ("Time and memory", _TIME, rows),
        ("Parts", _PARTS, rows),
        ("Without an estimate, and exchanges", _REST, rows),
    ]
    sections = [_HEAD, *(f"## {title}\n\n{_table(c, r)}" for title, c, r in tables)]
    return "\n".join([*sections, _READING, _TRUST, f"## Chips\n\n{_chips()}"])


Columns = dict[str, Callable[[Analysis], str]]


def _table(columns: Columns, rows: list[Analysis]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(cell(row) for cell in columns.values())} |" for row in rows]
    return "\n".join(lines) + "\n"


def _program(a: Analysis) -> str:
    name = a["config"].removeprefix("configs/").removesuffix(".py")
    return f"{name}, {a['what']}"


def _how(a: Analysis) -> str:
    return f"{a['topology']} {a['parallel']}, {a['per_device']} a device"


def _part(name: str) -> Callable[[Analysis], str]:
    """The share of a column of `_COLUMNS`; of "other", what no column has."""

    def share(a: Analysis) -> str:
        shares = {each["scope"]: each["share"] for each in a["scopes"]}
        in_column = [shares[s] for s in shares if _column(s.removesuffix(BACKWARD)) == name]
        return f"{sum(in_column):.1%}"

    return share


def _column(scope: str) -> str:
    return next((name for name, scopes in _COLUMNS.items() if scope in scopes), OTHER)


def _unestimated(a: Analysis) -> str:
    kinds = [f"{each['count']} {each['kind']}" for each in a["without_estimate"]
             if not each["kind"].endswith("-start")]  # fmt: skip
    return ", ".join(kinds) or "none"


def _unknown_loops(a: Analysis) -> str:
    scopes = [each["scope"] for each in a["loops"] if each["trips"] is None]
    return ", ".join(f"{scopes.count(s)} in {s}" for s in dict.fromkeys(scopes)) or "none"


def _exchanges(a: Analysis) -> str:
    found = a["collectives"]
    largest = found["largest"][0] if found["largest"] else None
    if largest is None:
        return "none"
    return (
        f"{found['count']} {', '.join(found['kinds'])}, {found['asynchronous']} asynchronous, "
        f"{found['mb']:.4g} MiB; the largest {largest['mb']:.4g} MiB after {largest['position']:.0%}"
    )


_TIME: Columns = {
    "config": _program,
    "slice": _how,
    "ms": lambda a: f"{a['ms']:.4g}",
    "images/s a chip": lambda a: f"{a['images_per_second_per_chip']:,.0f}",
    "images/s": lambda a: f"{a['images_per_second']:,.0f}",
    "of peak": lambda a: f"{a['share_of_peak']:.1%}",
    "memory, MiB": lambda a: f"{a['peak_mb']:,.0f} of {a['hbm_mb']:,.0f}",
    "code, MiB": lambda a: f"{a['code_mb']:,.0f}",
    "compiled in, s": lambda a: f"{a['compile_seconds']:,.0f}",
}
_COLUMNS = {
    "backbone": ("backbone",), "heads": ("heads",), "colors": ("photometric", "normalize"),
    "match": ("match",), "mine": ("mine",), "loss": ("loss",), "update": ("update",),
    "finite check": ("finite_check",), "postprocess": ("postprocess",), "nms": ("nms",),
}  # fmt: skip
_PARTS: Columns = {
    "config": _program,
    "slice": _how,
    **{name: _part(name) for name in (*_COLUMNS, OTHER)},
}
_REST: Columns = {
    "config": _program,
    "slice": _how,
    "without an estimate": _unestimated,
    "at least, ms": lambda a: f"{floor_ms(a):.2g}",
    "loops of unknown length": _unknown_loops,
    "exchanges": _exchanges,
}


def _chips() -> str:
    lines = [
        "The clock is the published peak by the FLOP of a cycle. These are twice the cells of the matrix units; the",
        "compiler schedules a convolution of 256 channels with 91 to 98 % of them. The page of v6e names two units of",
        "256 x 256, which would be a clock of 3.5 GHz; the compiler counts on four.",
        "",
        "| chip | peak, bfloat16 | HBM | bandwidth | devices of JAX | FLOP a cycle and device | clock | source |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for chip in CHIPS.values():
        lines.append(
            f"| {chip.name} | {chip.peak_flops / 1e12:g} TFLOP/s | {chip.hbm_gib:g} GiB | "
            f"{chip.hbm_bandwidth / 1e9:,g} GB/s | {chip.cores} | {chip.flop_per_cycle:,} | "
            f"{chip.clock_hz / 1e9:.2f} GHz | {chip.source} |"
        )
    return "\n".join(lines) + "\n"
