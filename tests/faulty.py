"""`python -m faulty`: the training command, but process 1 breaks before its sixth step."""

from ssd_jax import main
from ssd_jax.data import loader
from ssd_jax.runtime import command_line

original = loader.training_batches


def breaking(source, config, first_step, last_step, process=(0, 1)):
    for number, batch in enumerate(original(source, config, first_step, last_step, process)):
        if process[0] == 1 and number == 5:
            raise RuntimeError("the disk of process 1 is gone")
        yield batch


if __name__ == "__main__":
    loader.training_batches = breaking
    main.define_flags()
    command_line.run(main.main)
