"""What a config may hold: a rule for every field of the base experiment, and for combinations.

A new field needs one line in `FIELDS`. Names are written out, because this file starts no JAX.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

_LARGEST, _LARGEST_WHOLE = 3.4e38, 2**31 - 1  # of float32 and int32


class Rule(NamedTuple):
    """What a value must be, in words that follow "must be", and the test; it takes any value."""

    wants: str
    holds: Callable[[Any], bool]


def _is_number(x: Any) -> bool:
    """An int or float that float32 holds: neither a bool, nor NaN, nor infinite."""
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= _LARGEST


def number(wants: str, holds: Callable[[Any], bool]) -> Rule:
    """A number for which `holds`."""
    return Rule(f"a number {wants}", lambda x: _is_number(x) and holds(x))


def whole(least: int) -> Rule:
    """An int from `least` on that int32 holds."""
    within = number("", lambda x: isinstance(x, int) and least <= x <= _LARGEST_WHOLE)
    return within._replace(wants=f"a whole number, {least} or above")


def choice(*names: str) -> Rule:
    """One of the names."""
    return Rule(f"one of {', '.join(names)}", lambda x: isinstance(x, str) and x in names)


def many(rule: Rule, least: int = 0, most: int = _LARGEST_WHOLE) -> Rule:
    """A tuple of `least` to `most` values, each by the rule."""
    count = f"{least}" if least == most else f"{least} or more"
    return Rule(
        f"a tuple of {count}, each {rule.wants}",
        lambda x: isinstance(x, tuple) and least <= len(x) <= most and all(map(rule.holds, x)),
    )


def distinct(rule: Rule) -> Rule:
    """A tuple by the rule, without a value twice."""
    return Rule(f"{rule.wants}, none twice", lambda x: rule.holds(x) and len({*x}) == len(x))


def ascending(rule: Rule) -> Rule:
    """A tuple by the rule, each value larger than the one before."""
    return Rule(f"{rule.wants}, ascending", lambda x: rule.holds(x) and sorted({*x}) == [*x])


def span(low: float, high: float) -> Rule:
    """(from, to) within [low, high]."""
    two = many(Rule("", _is_number), 2, 2)
    return Rule(
        f"(from, to) with {low:g} <= from <= to <= {high:g}",
        lambda x: two.holds(x) and low <= x[0] <= x[1] <= high,
    )


POSITIVE = number("above 0", lambda x: x > 0)
NOT_NEGATIVE = number("not below 0", lambda x: x >= 0)
FRACTION = number("from 0 to 1", lambda x: 0 <= x <= 1)
PART = number("above 0 and at most 1", lambda x: 0 < x <= 1)
DECAY = number("from 0 to below 1", lambda x: 0 <= x < 1)
PIXEL = number("from 0 to 255", lambda x: 0 <= x <= 255)
TRUTH = Rule("True or False", lambda x: isinstance(x, bool))
TEXT = Rule("text, empty for none", lambda x: isinstance(x, str))
WORD = Rule("a word", lambda x: isinstance(x, str) and bool(x.strip()))
PLAIN = Rule(
    "a finite number, a word, or a tuple of them",
    lambda x: isinstance(x, str | bool) or _is_number(x) or many(PLAIN).holds(x),
)

WEIGHT_FORMATS = ("torchvision", "tflite", "caffe", "npz")

# Each field by its full name; `NAME.*` is a block whose fields are not known here.
FIELDS = {
    "seed": whole(0),
    "batch_size": whole(1),
    "image_size": many(whole(1), 2, 2),
    "data.train": many(WORD, 1),
    "data.test": many(WORD, 1),
    "data.classes": distinct(many(WORD)),
    "augment.geometric": distinct(many(choice("zoom_out", "iou_crop", "flip"))),
    "augment.zoom_out.probability": FRACTION,
    "augment.zoom_out.max_ratio": number("not below 1", lambda x: x >= 1),
    "augment.iou_crop.min_ious": many(FRACTION),
    "augment.iou_crop.scale": span(0.01, 1.0),
    "augment.iou_crop.aspect_ratio": span(0.01, 100.0),
    "augment.iou_crop.trials": whole(1),
    "augment.iou_crop.selection": choice("success", "mode"),
    "augment.iou_crop.shape": choice("aspect", "sides"),
    "augment.iou_crop.accept": choice("any", "all"),
    "augment.flip.horizontal": FRACTION,
    "augment.flip.vertical": FRACTION,
    "augment.photometric.operations": distinct(
        many(choice("brightness", "contrast", "saturation", "hue", "channel_order"))
    ),
    "augment.photometric.probability": FRACTION,
    "augment.photometric.brightness": PIXEL,
    "augment.photometric.contrast": span(0.0, 100.0),
    "augment.photometric.saturation": span(0.0, 100.0),
    "augment.photometric.hue": number("from 0 to 0.5", lambda x: 0 <= x <= 0.5),
    "augment.photometric.channel_order": FRACTION,
    "model.name": WORD,
    "model.backbone.*": PLAIN,
    "model.head": choice("conv", "lite"),
    "model.head_kernel": whole(1),
    "model.mean": many(PIXEL, 3, 3),
    "model.std": many(POSITIVE, 3, 3),
    "model.dtype": choice("float32", "bfloat16"),
    "init.source": TEXT,
    "init.format": choice("", *WEIGHT_FORMATS)._replace(
        wants=f"one of {', '.join(WEIGHT_FORMATS)}, or empty"
    ),
    "init.what": choice("detector", "backbone"),
    "priors.sizes": ascending(many(POSITIVE)),
    "priors.formula.s_min": PART,
    "priors.formula.s_max": PART,
    "priors.formula.first": FRACTION,
    "priors.aspect_ratios": many(many(POSITIVE), 1),
    "priors.extra_square": choice("second", "last", "none"),
    "priors.first_level": many(many(POSITIVE, 2, 2)),
    "priors.steps": many(POSITIVE),
    "priors.truncate": TRUTH,
    "priors.clip": choice("none", "corners", "size", "center_size"),
    "matching.matcher": choice("best_prior", "bipartite"),
    "matching.contested": choice("best", "first", "last"),
    "matching.threshold": PART,
    "matching.strict": TRUTH,
    "matching.negative_threshold": PART,
    "matching.difficult": choice("train", "ignore", "drop"),
    "matching.variances": many(POSITIVE, 4, 4),
    "loss.classification": choice("softmax", "sigmoid", "sigmoid_classes"),
    "loss.negatives": choice("hard", "random"),
    "loss.negative_ratio": POSITIVE,
    "loss.normalizer": choice("batch", "image"),
    "loss.localization_weight": NOT_NEGATIVE,
    "optim.name": choice("sgd", "rmsprop"),
    "optim.learning_rate": POSITIVE,
    "optim.momentum": DECAY,
    "optim.rmsprop.decay": DECAY,
    "optim.rmsprop.epsilon": POSITIVE,
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.decayed": many(WORD),
    "optim.frozen": many(WORD),
    "optim.bias_rate": NOT_NEGATIVE,
    "optim.clip_norm": NOT_NEGATIVE,
    "optim.schedule": choice("step", "cosine"),
    "optim.decay_at": ascending(many(PART)),
    "optim.decay_rate": PART,
    "optim.warmup_steps": whole(0),
    "optim.ema": DECAY,
    "steps": whole(1),
    "log_every": whole(1),
    "eval_every": whole(0),
    "save_every": whole(0),
    "postprocess.score_threshold": FRACTION,
    "postprocess.iou_threshold": FRACTION,
    "postprocess.top_k_per_class": whole(1),
    "postprocess.top_k": whole(1),
    "postprocess.clip": choice("first", "last", "none"),
    "parallel": choice("pmap", "jit"),
    "deterministic": TRUTH,
}

# Fields that must fit together, whether their values do, and what a message says of the first.
TOGETHER = (
    (
        ("optim.warmup_steps", "steps", "optim.schedule", "optim.decay_at"),
        lambda warmup, n, kind, at: warmup < n * min(at if kind == "step" else (), default=1),
        "reaches the first decay, or the end: shorten it or train longer",
    ),
    (
        ("steps", "batch_size"),
        lambda steps, batch: steps * batch <= _LARGEST_WHOLE,
        "at this batch makes more samples than 32 bits can number: take fewer",
    ),
    (
        ("matching.negative_threshold", "matching.threshold"),
        lambda negative, threshold: negative <= threshold or negative == 1,
        "above the threshold leaves no prior out: lower it, or write 1.0 for none",
    ),
    (
        ("augment.iou_crop.aspect_ratio", "augment.iou_crop.scale"),
        lambda ratio, scale: ratio[0] * scale[1] ** 2 <= 1 and ratio[1] >= scale[1] ** 2,
        "has no patch of the largest scale inside the image: include 1, or lower the scale",
    ),
    (
        ("priors.formula.s_min", "priors.formula.first", "priors.formula.s_max"),
        lambda s_min, first, s_max: first < s_min <= s_max,
        "must lie above first, the scale of a finer level, and not above s_max",
    ),
    (
        ("priors.aspect_ratios", "priors.sizes", "priors.steps", "priors.extra_square"),
        lambda levels, sizes, steps, extra: (
            len(sizes) in (0, len(levels) + 1, len(levels) + (extra != "none"))
            and len(steps) in (0, len(levels))
        ),
        "has an entry a level: write one more of sizes and as many steps, or () for either",
    ),
    (
        ("priors.sizes", "priors.truncate"),
        lambda sizes, cut: not cut or not sizes or sizes[0] >= 1,
        "cut to an integer leaves a prior without area: begin at 1, or do not truncate",
    ),
    (
        ("postprocess.top_k", "postprocess.top_k_per_class", "data.classes"),
        lambda top_k, per_class, classes: not classes or top_k <= per_class * len(classes),
        "is more than all classes can give: lower it or raise top_k_per_class",
    ),
)
