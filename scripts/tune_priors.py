"""Fit priors to annotations: `ssd_jax/commands/tune_priors.py`."""

from ssd_jax.commands import tune_priors
from ssd_jax.runtime.command_line import run_command

if __name__ == "__main__":
    run_command(tune_priors)
