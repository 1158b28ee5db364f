"""The console script `ssd-jax COMMAND --flag=value …`."""

import difflib
import importlib
import sys

import ssd_jax
from ssd_jax.errors import ConfigError
from ssd_jax.runtime import command_line

COMMANDS = {  # module, and what it does
    "train": ("ssd_jax.commands.train", "train a detector; the same command resumes"),
    "eval": ("ssd_jax.main", "evaluate a run"),
    "predict": ("ssd_jax.predict", "find objects in pictures and videos"),
    "import": ("ssd_jax.commands.import_weights", "make a run of another project's weights"),
    "weights": ("ssd_jax.commands.weights", "list trained weights that have names"),
    "check": ("ssd_jax.commands.check_data", "check images and annotations before training"),
    "tune-priors": ("ssd_jax.commands.tune_priors", "fit priors to annotations"),
    "sweep": ("ssd_jax.commands.sweep", "run a sweep of configs, and report on it"),
}


def main() -> None:
    """Run the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print(_help())
        return
    if name in ("--version", "version"):
        print(f"ssd_jax {ssd_jax.__version__}")
        return
    command_line.exit_on_error(lambda: _check(name))
    sys.argv[:2] = [f"ssd-jax {name}"]
    command = importlib.import_module(COMMANDS[name][0])
    if name == "train":
        command.run()
        return
    command_line.run_command(command, {"mode": "eval"} if name == "eval" else {})


def _check(name: str) -> None:
    if name in COMMANDS:
        return
    near = difflib.get_close_matches(name, COMMANDS, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(COMMANDS)}"
    raise ConfigError(f"ssd-jax {name}: no such command; {hint}")


def _help() -> str:
    lines = ["ssd-jax COMMAND --flag=value …", ""]
    lines += [f"  {name:12s} {meaning}" for name, (_, meaning) in COMMANDS.items()]
    return "\n".join([*lines, "", "ssd-jax COMMAND --help explains a command."])


if __name__ == "__main__":
    main()
