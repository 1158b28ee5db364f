"""Damaged files: cut at every length, or changed at random."""

import tracemalloc

import numpy as np

from ssd_jax.errors import CheckpointError, SsdError


def cuts(data: bytes):
    """Every proper beginning of a file."""
    return (data[:length] for length in range(len(data)))


def survives(read, data: bytes, count: int, most_bytes: int = 2**22) -> int:
    """How many of `count` damaged files `read` refuses; it must not fail in any other way.

    Nor may it ever hold more than `most_bytes`, however large the numbers in the file become.
    """
    random, refused = np.random.default_rng(0), 0
    tracemalloc.start()
    for _ in range(count):
        try:
            read(damaged(data, random))
        except CheckpointError as error:
            refused += 1
            assert len(str(error)) < 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most_bytes
    return refused


def names_a_file(folder, write, read, data: bytes, count: int) -> int:
    """How many of `count` damaged files, which `write` puts into `folder`, `read` refuses.

    The message must be short and name a file, which may be another that the damaged one points to.
    """
    random, refused = np.random.default_rng(0), 0
    for _ in range(count):
        write(damaged(data, random))
        try:
            read()
        except SsdError as error:
            refused += 1
            assert f"{folder}/" in str(error) and len(str(error)) < 2000, error
    return refused


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        at, length = random.integers(len(data)), random.integers(1, 9)
        kind = random.integers(4)
        if kind == 0:
            data[at] ^= 1 << random.integers(8)
        elif kind == 1:
            data[at : at + length] = b"\xff" * length
        elif kind == 2:
            del data[at : at + length]
        else:
            data[at:at] = random.bytes(length)
    return bytes(data)
