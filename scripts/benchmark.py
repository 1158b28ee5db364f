"""Measure the project against PyTorch and against its goals: docs/benchmarks.md.

python -m scripts.benchmark [--only=NAME,NAME] [--rounds=5] [--quick] [--output=benchmark.json]
python -m scripts.benchmark --render=benchmark.json --output=docs/benchmarks.md
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from absl import flags

from scripts.benchmarks import report, timing
from scripts.benchmarks.topics import TOPICS
from ssd_jax.errors import ConfigError, SsdError
from ssd_jax.runtime import command_line
from ssd_jax.runtime.files import write_json

_ROOT = Path(__file__).resolve().parents[1]


def measure_topics(names: list[str], rounds: int, quick: bool, command: str, output: Path) -> dict:
    """Measure each topic in a process of its own; a topic that fails has a row that says so.

    `output` is written after each topic, so that a run may be interrupted.
    """
    load_before, commit, rows, devices = timing.load_average(), report.current_commit(), [], {}
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        topic_rows, devices[name] = _measure_topic(name, rounds, quick)
        rows += topic_rows
        load = (load_before, timing.load_average())
        document = report.make_document(rows, devices, command, load, commit)
        write_json(output, document)
    return document


def _measure_topic(name: str, rounds: int, quick: bool) -> tuple[list[report.Row], str]:
    environment = dict(os.environ)
    if TOPICS[name].platform == "cpu":
        environment["JAX_PLATFORMS"] = "cpu"
    else:  # PyTorch needs some of the memory too
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    with TemporaryDirectory() as folder:
        output = Path(folder, "rows.json")
        command = [sys.executable, "-m", "scripts.benchmarks", name, str(rounds)]
        command += ["quick" if quick else "full", str(output)]
        result = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True)
        if result.returncode:
            print(result.stderr, file=sys.stderr)
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            return [report.Row(name, topic=name, missing=f"failed: {lines[-1]}")], ""
        return report.load_topic(output)


def main() -> None:
    """The command."""
    given, output = flags.FLAGS, Path(flags.FLAGS.output)
    if given.render:
        document = report.load_document(Path(given.render))
        report.write_page(output, report.format_table(document))
        return
    if unknown := sorted(set(given.only) - set(TOPICS)):
        names = ", ".join(TOPICS)
        raise ConfigError(f"--only={','.join(unknown)}: no such topic; there are {names}")
    command = " ".join(["python -m scripts.benchmark", *sys.argv[1:]])
    rounds = min(given.rounds, 2) if given.quick else given.rounds
    names = given.only or list(TOPICS)
    document = measure_topics(names, rounds, given.quick, command, output)
    print(report.format_table(report.load_document(output)))
    if failed := [row["topic"] for row in document["rows"] if row["missing"].startswith("failed")]:
        raise SsdError(f"failed: {', '.join(failed)}; their errors are printed above")


if __name__ == "__main__":
    flags.DEFINE_list("only", [], f"Topics, of {', '.join(TOPICS)}; all by default.")
    flags.DEFINE_integer("rounds", 5, "Measurements of either side.", lower_bound=1)
    flags.DEFINE_bool("quick", False, "Two rounds and smaller sizes: does everything run?")
    flags.DEFINE_string("render", None, "JSON of an earlier run: write its table into a page.")
    flags.DEFINE_string("output", "benchmark.json", "The JSON to write, or with --render the page.")
    command_line.run(main)
