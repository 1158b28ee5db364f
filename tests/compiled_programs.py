"""Compiled programs that are stored in ahead_of_time/programs, which `make_programs.py` makes."""

from pathlib import Path

from ssd_jax.ahead_of_time import hlo


def read_program(name):
    return hlo.parse(
        (Path(__file__).parent / "ahead_of_time" / "programs" / f"{name}.txt").read_text()
    )
