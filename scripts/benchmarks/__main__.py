"""The process of a topic: `python -m scripts.benchmarks TOPIC ROUNDS quick|full OUTPUT`.

A topic has a process of its own, so that its platform, threads and memory are its own too.
"""

import importlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from scripts.benchmarks import timing
from scripts.benchmarks.topics import TOPICS
from ssd_jax.runtime.background import usable_cores


def main(topic: str, rounds: int, quick: bool, output: Path) -> None:
    """Measure a topic and write its rows and devices as JSON."""
    module, _, function = TOPICS[topic].function.partition(".")
    measure = getattr(importlib.import_module(f"scripts.benchmarks.{module}"), function)
    measurements, rows = measure(rounds, quick), []
    while True:
        load, start = timing.load_average(), time.perf_counter()
        if (row := next(measurements, None)) is None:
            break
        row.topic, row.load, row.noisy = topic, load, load > usable_cores() + 0.5
        row.seconds = time.perf_counter() - start
        rows.append(asdict(row))
    output.write_text(json.dumps({"rows": rows, "devices": _describe_devices()}))


def _describe_devices() -> str:
    import jax

    devices = jax.local_devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"


if __name__ == "__main__":
    name, rounds, quick, output = sys.argv[1:]
    main(name, int(rounds), quick == "quick", Path(output))
