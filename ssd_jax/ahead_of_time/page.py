"""The tables of docs/accelerators.md, from saved analyses."""

from collections.abc import Callable

from ssd_jax.ahead_of_time.analysis import Analysis
from ssd_jax.ahead_of_time.chips import CHIPS
from ssd_jax.ahead_of_time.report import floor_ms
from ssd_jax.ahead_of_time.scopes import BACKWARD, OTHER

_COLUMNS = {
    "backbone": ("backbone",), "heads": ("heads",), "colors": ("photometric", "normalize"),
    "match": ("match",), "mine": ("mine",), "loss": ("loss",), "update": ("update",),
    "finite check": ("finite_check",), "postprocess": ("postprocess",), "nms": ("nms",),
}  # fmt: skip


def format_tables(analyses: list[Analysis]) -> str:
    """Time and memory, parts, what has no estimate, and the chips, in Markdown.

    Args:
        analyses: as `scripts.compile_ahead` saves them.
    """
    rows = sorted(analyses, key=lambda a: (a["what"] != "train", a["config"], _slice(a)))
    versions = sorted({f"jax {a['jax']}, libtpu {a['libtpu']}" for a in rows})
    return "\n".join(
        [
            f"{'; '.join(versions)}. Types: {', '.join(sorted({a['dtype'] for a in rows}))}.\n",
            f"### Time and memory\n\n{_table(_TIME, rows)}",
            f"### Parts, forward and backward, of the time\n\n{_table(_PARTS, rows)}",
            f"### Without an estimate, and exchanges\n\n{_table(_REST, rows)}",
            f"### Chips\n\n{_chips()}",
        ]
    )


Columns = dict[str, Callable[[Analysis], str]]


def _table(columns: Columns, rows: list[Analysis]) -> str:
    return _markdown(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _program(a: Analysis) -> str:
    name = a["config"].removeprefix("configs/").removesuffix(".py")
    return name if a["what"] == "train" else f"{name}, {a['what']}"


def _slice(a: Analysis) -> str:
    return f"{a['topology']} {a['parallel']}"


def _part(name: str) -> Callable[[Analysis], str]:
    """The share of a column of `_COLUMNS`; of "other", what no column has."""

    def share(a: Analysis) -> str:
        shares = {each["scope"]: each["share"] for each in a["scopes"]}
        found = [shares[scope] for scope in shares if _column(scope) == name]
        return f"{sum(found):.1%}" if found else ""

    return share


def _column(scope: str) -> str:
    scope = scope.removesuffix(BACKWARD)
    return next((name for name, scopes in _COLUMNS.items() if scope in scopes), OTHER)


def _unestimated(a: Analysis) -> str:
    kinds = [
        f"{each['count']} {each['kind']}"
        for each in a["without_estimate"]
        if not each["kind"].endswith("-start")
    ]
    return ", ".join(kinds) or "none"


def _unknown_loops(a: Analysis) -> str:
    scopes = [each["scope"] for each in a["loops"] if each["trips"] is None]
    return ", ".join(f"{scopes.count(s)} in {s}" for s in dict.fromkeys(scopes)) or "none"


def _exchanges(a: Analysis) -> str:
    found = a["collectives"]
    if not found["count"]:
        return "none"
    hidden = f", {found['asynchronous']} asynchronous" if found["asynchronous"] else ""
    return f"{found['count']} {', '.join(found['kinds'])}{hidden}, {found['mb']:.3g} MiB"


def _largest_exchange(a: Analysis) -> str:
    if not (largest := a["collectives"]["largest"][:1]):
        return ""
    return f"{largest[0]['mb']:.3g} MiB after {largest[0]['position']:.0%}"


_TIME: Columns = {
    "config": _program,
    "slice": _slice,
    "images a device": lambda a: str(a["per_device"]),
    "ms": lambda a: f"{a['ms']:.3g}",
    "images/s a chip": lambda a: f"{a['images_per_second_per_chip']:,.0f}",
    "images/s": lambda a: f"{a['images_per_second']:,.0f}",
    "of peak": lambda a: f"{a['share_of_peak']:.1%}",
    "memory, MiB": lambda a: f"{a['peak_mb']:,.0f} of {a['hbm_mb']:,.0f}",
    "code, MiB": lambda a: f"{a['code_mb']:,.0f}",
    "compiled in": lambda a: f"{a['compile_seconds']:,.0f} s",
}
_PARTS: Columns = {
    "config": _program,
    "slice": _slice,
    **{name: _part(name) for name in (*_COLUMNS, OTHER)},
}
_REST: Columns = {
    "config": _program,
    "slice": _slice,
    "without an estimate": _unestimated,
    "these take at least": lambda a: f"{floor_ms(a):.2g} ms",
    "loops of unknown length": _unknown_loops,
    "exchanges": _exchanges,
    "largest": _largest_exchange,
}


def _chips() -> str:
    head = ["chip", "peak, bfloat16", "HBM", "bandwidth", "devices of JAX", "FLOP a cycle, device",
            "clock", "source"]  # fmt: skip
    rows = [
        [
            chip.name, f"{chip.peak_flops / 1e12:g} TFLOP/s", f"{chip.hbm_gib:g} GiB",
            f"{chip.hbm_bandwidth / 1e9:,g} GB/s", str(chip.cores), f"{chip.flop_per_cycle:,}",
            f"{chip.clock_hz / 1e9:.2f} GHz", chip.source,
        ]
        for chip in CHIPS.values()
    ]  # fmt: skip
    return _markdown(head, rows)
