"""Import another project's weight file as a run: `ssd_jax/commands/import_weights.py`."""

from ssd_jax.commands import import_weights
from ssd_jax.runtime.command_line import run_command

if __name__ == "__main__":
    run_command(import_weights)
