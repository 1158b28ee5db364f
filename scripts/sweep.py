"""Run the sweep of a config file, and report on it: `ssd_jax/commands/sweep.py`."""

from ssd_jax.commands import sweep
from ssd_jax.runtime.command_line import run_command

if __name__ == "__main__":
    run_command(sweep)
