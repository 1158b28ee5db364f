"""Check every image and annotation of an experiment: `ssd_jax/commands/check_data.py`."""

from ssd_jax.commands import check_data
from ssd_jax.runtime.command_line import run_command

if __name__ == "__main__":
    run_command(check_data)
