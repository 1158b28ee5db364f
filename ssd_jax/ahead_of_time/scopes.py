"""Parts of the program by which costs are added up, and the part that an operation belongs to."""

import re

# Names of `jax.named_scope` and of Flax modules, as they stand in the names of operations.
SCOPES = {
    "backbone": "feature maps, their normalization included",
    "heads": "logits and offsets",
    "photometric": "color jitter, with its random numbers",
    "normalize": "mean and standard deviation of the pixels",
    "match": "targets of the priors",
    "mine": "hard negatives",
    "loss": "classification and localization, without mining",
    "gradient_sum": "the gradients of all devices",
    "update": "optimizer, its schedule, clipping, averages",
    "finite_check": "the old or the new state",
    "metrics": "what the step reports",
    "postprocess": "scores, boxes and the best of each class, without suppression",
    "nms": "non-maximum suppression",
}
OTHER = "other"
BACKWARD = " backward"
_LAST_WORD = re.compile(r"(\w+)\W*$")


def scope_of(op_name: str) -> str | None:
    """The innermost scope in the name of an operation; " backward" is added to one in a gradient.

    `jit(step)/transpose(jvp(loss))/SSD/heads/add` belongs to "heads backward". None without any.
    """
    words = [_LAST_WORD.search(part) for part in op_name.split("/")]
    found = [word[1] for word in words if word and word[1] in SCOPES]
    if not found:
        return None
    return found[-1] + (BACKWARD if "transpose(" in op_name else "")
