"""List the trained weights that have names: `ssd_jax/commands/weights.py`."""

from ssd_jax.commands import weights
from ssd_jax.runtime.command_line import run_command

if __name__ == "__main__":
    run_command(weights)
