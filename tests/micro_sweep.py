"""A sweep of the smallest detector: its two runs compile the same programs."""

import micro


def get_config():
    """`micro`, three steps of it."""
    return micro.get_config(steps=3, eval_every=0, log_every=1)


def get_hyper(hyper):
    """Two seeds."""
    return hyper.sweep("config.seed", [0, 1])
