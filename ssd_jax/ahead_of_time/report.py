"""An analysis as text for a terminal."""

from collections.abc import Iterator

from ssd_jax.ahead_of_time.analysis import Analysis

NOT_MEASURED = (
    "These are estimates of the compiler. Nothing ran on a device, and nothing here is a "
    "measurement."
)
_MAX_OP_NAME = 90


def format_report(analysis: Analysis) -> str:
    """All of an analysis, in lines of a word and what it says."""
    lines = [NOT_MEASURED]
    for title, body in _sections(analysis):
        lines += [f"{title if i == 0 else '':11s} {line}" for i, line in enumerate(body)]
    return "\n".join(lines)


def floor_ms(analysis: Analysis) -> float:
    """What operations without an estimate take at least; copies in the background hide."""
    floors = analysis["without_estimate"]
    return sum(each["floor_ms"] for each in floors if not each["kind"].endswith("-start"))


def _sections(a: Analysis) -> Iterator[tuple[str, list[str]]]:
    yield "program", [f"{a['what']} by {a['parallel']}, {a['dtype']}, {a['num_classes']} classes"]
    devices = f", {a['devices']} devices of JAX" if a["devices"] != a["chips"] else ""
    yield (
        "topology",
        [
            f"{a['topology']}: {a['chips']} x {a['chip']}{devices}, {a['processes']} process(es), "
            f"{a['per_device']} images a device, {a['batch_size']} in all"
        ],
    )
    yield (
        "compiler",
        [
            f"jax {a['jax']}, libtpu {a['libtpu']}: lowered in {a['lower_seconds']} s, compiled in "
            f"{a['compile_seconds']} s"
        ],
    )
    yield (
        "memory",
        [
            f"peak {a['peak_mb']:,.0f} of {a['hbm_mb']:,.0f} MiB of a device "
            f"({a['peak_mb'] / a['hbm_mb']:.0%}): arguments {a['argument_mb']:,.0f}, temporary "
            f"{a['temporary_mb']:,.0f}; code {a['code_mb']:,.0f}"
        ],
    )
    yield (
        "speed",
        [
            f"{a['cycles']:,} cycles, {a['ms']:g} ms: {a['images_per_second_per_chip']:,.0f} "
            f"images/s a chip, {a['images_per_second']:,.0f} in all; {a['share_of_peak']:.0%} of "
            "peak FLOP/s",
            *_unknown_time(a),
        ],
    )
    yield "parts", [f"{each['share']:6.1%} {each['ms']:10.4g} ms  {each['scope']}"
                    for each in a["scopes"]]  # fmt: skip
    yield (
        "operations",
        [
            f"{each['ms']:10.4g} ms  {each['times']:4d} x {each['kind']} {each['shape'][:40]} in "
            f"{each['scope']}: …{each['op_name'][-_MAX_OP_NAME:]}"
            for each in a["operations"]
        ],
    )
    yield (
        "loops",
        [
            f"{each['trips'] if each['trips'] is not None else 'unknown':>7} trips of "
            f"{each['ms_a_trip']:g} ms in {each['scope']}"
            for each in a["loops"]
        ]
        or ["none"],
    )
    yield (
        "no estimate",
        [
            f"{each['count']:5d} x {each['kind']}: {each['hbm_mb']:,.4g} MiB of HBM, at least "
            f"{each['floor_ms']:g} ms"
            for each in a["without_estimate"]
        ]
        or ["none"],
    )
    yield "collectives", list(_collectives(a["collectives"]))
    if "tries" in a:
        yield (
            "fit",
            [
                f"{each['per_device']:5d} images a device: {each['mb']:,.0f} MiB, "
                f"{'fits' if each['fits'] else 'does not fit'}"
                for each in a["tries"]
            ],
        )


def _unknown_time(a: Analysis) -> Iterator[str]:
    if unknown := sum(each["trips"] is None for each in a["loops"]):
        yield f"{unknown} loops of unknown length count once, so the program takes longer"
    yield (
        "collectives and operations without an estimate come on top, these with at least "
        f"{floor_ms(a):.3g} ms"
    )


def _collectives(found: Analysis) -> Iterator[str]:
    kinds = ", ".join(found["kinds"]) or "none"
    yield f"{found['count']} ({kinds}), {found['mb']:g} MiB, {found['asynchronous']} asynchronous"
    for each in found["largest"]:
        how = "synchronous" if each["synchronous"] else f"behind {each['hidden_ms']:g} ms"
        yield (
            f"{each['kind']} of {each['arrays']} arrays, {each['mb']:.4g} MiB, {how}, after "
            f"{each['position']:.0%} of the program, in {each['scope']}"
        )
