"""Measure the project against PyTorch and against its goals: docs/benchmarks.md.

python scripts/benchmark.py [--only=NAME,NAME] [--rounds=5] [--quick] [--output=benchmark.json]
python scripts/benchmark.py --render=benchmark.json --output=docs/benchmarks.md
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from absl import flags

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scripts.benchmarks import report, timing  # noqa: E402
from scripts.benchmarks.topics import TOPICS  # noqa: E402
from ssd_jax import cli, workdir  # noqa: E402
from ssd_jax.errors import ConfigError, SsdError  # noqa: E402


def measure(names: list[str], rounds: int, quick: bool, command: str, output: Path) -> dict:
    """Each topic in a process of its own; one that fails leaves a row that says so.

    What was measured so far is written after each topic, so that a run may be interrupted.
    """
    before, commit, rows, devices = timing.load(), report.commit(), [], {}
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        found, devices[name] = _child(name, rounds, quick)
        rows += found
        document = report.document(rows, devices, command, (before, timing.load()), commit)
        workdir.write_json(output, document)
    return document


def _child(name: str, rounds: int, quick: bool) -> tuple[list[report.Row], str]:
    environment = dict(os.environ)
    if TOPICS[name].platform == "cpu":
        environment["JAX_PLATFORMS"] = "cpu"
    else:  # PyTorch needs some of the memory too
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    with TemporaryDirectory() as folder:
        output = Path(folder, "rows.json")
        command = [sys.executable, "-m", "scripts.benchmarks", name, str(rounds)]
        command += ["quick" if quick else "full", str(output)]
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if ended.returncode:
            print(ended.stderr, file=sys.stderr)
            why = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
            return [report.Row(name, topic=name, missing=f"failed: {why}")], ""
        return report.child_rows(output)


def main() -> None:
    """The command."""
    given = flags.FLAGS
    if given.render:
        page = Path(given.output)
        report.write_page(page, report.table(report.load(Path(given.render))))
        return
    unknown = sorted(set(given.only) - set(TOPICS))
    if unknown or given.rounds < 1:
        raise ConfigError(
            f"--only={','.join(unknown)}: no such topic; there are {', '.join(TOPICS)}"
            if unknown
            else f"--rounds={given.rounds}: at least 1"
        )
    command = " ".join(["python scripts/benchmark.py", *sys.argv[1:]])
    rounds = min(given.rounds, 2) if given.quick else given.rounds
    output = Path(given.output)
    document = measure(given.only or list(TOPICS), rounds, given.quick, command, output)
    print(report.table(report.load(output)))
    if failed := [row["topic"] for row in document["rows"] if row["missing"].startswith("failed")]:
        raise SsdError(f"failed: {', '.join(failed)}; what they said is above")


if __name__ == "__main__":
    flags.DEFINE_list("only", [], f"Topics, of {', '.join(TOPICS)}; all by default.")
    flags.DEFINE_integer("rounds", 5, "Measurements of either side.")
    flags.DEFINE_bool("quick", False, "Two rounds and smaller sizes: does it run at all?")
    flags.DEFINE_string("render", None, "JSON of an earlier run: write its table into a page.")
    flags.DEFINE_string("output", "benchmark.json", "The JSON to write, or with --render the page.")
    cli.run(main)
