"""The rule of every field of a config, and the rules that several fields must meet together.

A new field needs a `Field` in `FIELDS`, a default in `configs/ssd300_vgg16_voc.py` and, for saved
runs, a line in `versions.py`. Choices are written out because this file starts no JAX.
"""

from typing import NamedTuple

from ssd_jax.config.rules import (
    BOOL,
    DECAY,
    FRACTION,
    INT32_MAX,
    NONEMPTY_STR,
    NONNEGATIVE,
    PIXEL,
    POSITIVE,
    POSITIVE_FRACTION,
    SCALAR_OR_TUPLE,
    SPLIT,
    STR,
    Rule,
    ascending,
    choice,
    distinct,
    integer,
    interval,
    number,
    tuple_of,
)


class Field(NamedTuple):
    """A field of a config: its rule, and its meaning in a few words."""

    rule: Rule
    meaning: str


WEIGHT_FORMATS = ("torchvision", "tflite", "caffe", "npz")

# Each field by its full name; `NAME.*` is a block whose fields each model defines.
FIELDS = {
    "seed": Field(
        integer(0),
        "of weights, order of the data, augmentation and random negatives",
    ),
    "batch_size": Field(
        integer(1),
        "images of all devices together in one step",
    ),
    "image_size": Field(
        tuple_of(integer(1), 2, 2),
        "height and width of the network's input in pixels",
    ),
    "data.train": Field(
        tuple_of(NONEMPTY_STR, 1),
        "training sets, concatenated: `voc:FOLDER:SPLIT` and others, see data.md",
    ),
    "data.val": Field(
        tuple_of(NONEMPTY_STR),
        "sets by which the best checkpoint is chosen, concatenated; () leaves that to the test set",
    ),
    "data.test": Field(
        tuple_of(NONEMPTY_STR),
        "sets to score in the end, concatenated; () where there is a validation set",
    ),
    "data.split": Field(
        SPLIT,
        "parts of `data.train` that train, choose the best checkpoint and test, divided by names "
        "of files; () for sets as they are",
    ),
    "data.bad": Field(
        choice("refuse", "skip"),
        "what happens to images and annotations that cannot be read: nothing starts, or they are "
        "left out and named",
    ),
    "data.classes": Field(
        distinct(tuple_of(NONEMPTY_STR)),
        "class names without the background; () takes those of the training set",
    ),
    "data.orientation": Field(
        choice("viewer", "stored"),
        "of pictures whose annotations have no size: viewer, as EXIF rotates them; stored, without "
        "that rotation",
    ),
    "data.cache": Field(
        STR,
        "folder for decoded training images, read instead of decoding them again; empty: none",
    ),
    "data.cache_gib": Field(
        POSITIVE,
        "size of that folder at most, in GiB; images beyond it are decoded every time",
    ),
    "data.workers": Field(
        integer(0),
        "processes that read training images, on each host; 0 = the threads of the trainer",
    ),
    "augment.geometric": Field(
        distinct(tuple_of(choice("zoom_out", "iou_crop", "flip"))),
        "operations in this order, followed by one resampling",
    ),
    "augment.zoom_out.probability": Field(
        FRACTION,
        "of placing the image in a larger canvas",
    ),
    "augment.zoom_out.max_ratio": Field(
        number("of at least 1", lambda x: x >= 1),
        "largest side of the canvas, in sides of the image",
    ),
    "augment.iou_crop.min_ious": Field(
        tuple_of(FRACTION),
        "minimum IoUs; a sampler of patches for each",
    ),
    "augment.iou_crop.scale": Field(
        interval(0.01, 1.0),
        "sides of a patch, in sides of the image",
    ),
    "augment.iou_crop.aspect_ratio": Field(
        interval(0.01, 100.0),
        "width to height of a patch, in fractions of the image",
    ),
    "augment.iou_crop.trials": Field(
        integer(1),
        "patches that each sampler proposes",
    ),
    "augment.iou_crop.selection": Field(
        choice("success", "mode"),
        "success: one of the patches of all samplers (Caffe); mode: one sampler first (others)",
    ),
    "augment.iou_crop.shape": Field(
        choice("aspect", "sides"),
        "aspect: a patch has a scale and an aspect ratio; sides: width and height are independent",
    ),
    "augment.iou_crop.accept": Field(
        choice("any", "all"),
        "any: the IoU of one box is enough; all: that of every box",
    ),
    "augment.flip.horizontal": Field(
        FRACTION,
        "probability",
    ),
    "augment.flip.vertical": Field(
        FRACTION,
        "probability",
    ),
    "augment.photometric.operations": Field(
        distinct(tuple_of(choice("brightness", "contrast", "saturation", "hue", "channel_order"))),
        "color operations on the device",
    ),
    "augment.photometric.probability": Field(
        FRACTION,
        "of each operation",
    ),
    "augment.photometric.brightness": Field(
        PIXEL,
        "largest shift, of 255",
    ),
    "augment.photometric.contrast": Field(
        interval(0.0, 100.0),
        "factor",
    ),
    "augment.photometric.saturation": Field(
        interval(0.0, 100.0),
        "factor",
    ),
    "augment.photometric.hue": Field(
        number("from 0 to 0.5", lambda x: 0 <= x <= 0.5),
        "largest shift, of a full circle",
    ),
    "augment.photometric.channel_order": Field(
        FRACTION,
        "probability of another order of the channels",
    ),
    "model.name": Field(
        NONEMPTY_STR,
        "file of ssd_jax/models: vgg, mobilenet_v1, mobilenet_v3, resnet or small",
    ),
    "model.backbone.*": Field(
        SCALAR_OR_TUPLE,
        "fields of that `Backbone`, see its docstring",
    ),
    "model.head": Field(
        choice("conv", "lite"),
        "conv: one convolution; lite: depthwise and 1 x 1 (SSDLite)",
    ),
    "model.head_kernel": Field(
        integer(1),
        "size of the heads' convolutions",
    ),
    "model.mean": Field(
        tuple_of(PIXEL, 3, 3),
        "RGB, 0 … 255; also the color outside the image",
    ),
    "model.std": Field(
        tuple_of(POSITIVE, 3, 3),
        "RGB, 0 … 255",
    ),
    "model.norm_batch_size": Field(
        integer(0),
        "images over which a batch norm averages in training, which divide those of a device; 0: "
        "all images of all devices",
    ),
    "model.dtype": Field(
        choice("float32", "bfloat16"),
        "of activations; parameters and losses are always float32",
    ),
    "init.source": Field(
        STR,
        "run folder, weight file or name of weights to start from; empty: random weights",
    ),
    "init.format": Field(
        choice("", *WEIGHT_FORMATS)._replace(
            description=f"one of {', '.join(WEIGHT_FORMATS)}, or empty"
        ),
        "of a weight file; empty for a run folder or a name",
    ),
    "init.what": Field(
        choice("detector", "backbone"),
        "detector; or backbone, which leaves the heads random",
    ),
    "init.lr_multiplier": Field(
        POSITIVE,
        "of the learning rate, where the source is a detector of all classes of the data",
    ),
    "priors.sizes": Field(
        ascending(tuple_of(POSITIVE)),
        "pixels, one for each feature map and one more; () takes the formula",
    ),
    "priors.formula.s_min": Field(
        POSITIVE_FRACTION,
        "smallest scale of equation 4, of the shorter side",
    ),
    "priors.formula.s_max": Field(
        POSITIVE_FRACTION,
        "largest scale",
    ),
    "priors.formula.first": Field(
        FRACTION,
        "scale of an additional finest level below s_min; 0 for none",
    ),
    "priors.aspect_ratios": Field(
        tuple_of(tuple_of(POSITIVE), 1),
        "of each level; each ratio r gives a prior r and a prior 1/r",
    ),
    "priors.extra_square": Field(
        choice("second", "last", "none"),
        "position of the √(s·s′) square among the priors of a location",
    ),
    "priors.first_level": Field(
        tuple_of(tuple_of(POSITIVE, 2, 2)),
        "explicit (width, height) of the finest level's priors, in pixels; () for none",
    ),
    "priors.strides": Field(
        tuple_of(POSITIVE),
        "pixels between locations of each level; () for even grids",
    ),
    "priors.floor_sizes": Field(
        BOOL,
        "round sizes down to integers, as Caffe does",
    ),
    "priors.clip": Field(
        choice("none", "corners", "size", "center_size"),
        "what is clipped to [0, 1]",
    ),
    "matching.matcher": Field(
        choice("best_prior", "bipartite"),
        "bipartite: greedy over the whole image (Caffe); best_prior: each box its best prior",
    ),
    "matching.conflict_resolution": Field(
        choice("best", "first", "last"),
        "which box gets a prior that is the best one of several; best_prior only",
    ),
    "matching.threshold": Field(
        POSITIVE_FRACTION,
        "IoU from which a prior is positive",
    ),
    "matching.strict": Field(
        BOOL,
        "an IoU must be above the threshold, not only reach it",
    ),
    "matching.negative_threshold": Field(
        POSITIVE_FRACTION,
        "a prior between this IoU and the threshold is not used; 1 leaves none out",
    ),
    "matching.difficult": Field(
        choice("train", "ignore", "drop"),
        "train on difficult boxes, ignore or drop them; crowds are always ignored",
    ),
    "matching.variances": Field(
        tuple_of(POSITIVE, 4, 4),
        "of the box encoding: x, y, width, height",
    ),
    "loss.classification": Field(
        choice("softmax", "sigmoid", "sigmoid_classes", "focal"),
        "sigmoid: binary cross-entropy of all columns; sigmoid_classes: without the background; "
        "focal: that, where a column counts the less the better it is predicted",
    ),
    "loss.focal.alpha": Field(
        POSITIVE_FRACTION,
        "weight of positive columns; that of the others is 1 - alpha",
    ),
    "loss.focal.gamma": Field(
        NONNEGATIVE,
        "power of the probability of the wrong answer, in a column's weight",
    ),
    "loss.negatives": Field(
        choice("hard", "random", "all"),
        "hard: those of the highest loss; random; all: `loss.negative_ratio` has no effect",
    ),
    "loss.negative_ratio": Field(
        POSITIVE,
        "negatives for each positive of an image",
    ),
    "loss.normalizer": Field(
        choice("batch", "image"),
        "batch: positives of the whole batch; image: of each image",
    ),
    "loss.localization_weight": Field(
        NONNEGATIVE,
        "the paper's alpha",
    ),
    "optim.name": Field(
        choice("sgd", "rmsprop"),
        "update rule",
    ),
    "optim.learning_rate": Field(
        POSITIVE,
        "after warm-up",
    ),
    "optim.momentum": Field(
        DECAY,
        "0 for none",
    ),
    "optim.rmsprop.decay": Field(
        DECAY,
        "of the mean squares",
    ),
    "optim.rmsprop.epsilon": Field(
        POSITIVE,
        "under the root",
    ),
    "optim.weight_decay": Field(
        NONNEGATIVE,
        "L2, added before momentum",
    ),
    "optim.weight_decay_params": Field(
        tuple_of(NONEMPTY_STR),
        "shell patterns of the parameters that decay",
    ),
    "optim.frozen": Field(
        tuple_of(NONEMPTY_STR),
        "shell patterns of parameters that do not train; their norms keep their statistics",
    ),
    "optim.bias_lr_multiplier": Field(
        NONNEGATIVE,
        "of the learning rate, for biases; 2 in Caffe",
    ),
    "optim.clip_norm": Field(
        NONNEGATIVE,
        "maximum norm of the gradient over all parameters; 0 does not clip",
    ),
    "optim.schedule": Field(
        choice("step", "cosine"),
        "step: decays at fractions; cosine: to zero",
    ),
    "optim.lr_decay_fractions": Field(
        ascending(tuple_of(POSITIVE_FRACTION)),
        "of `steps`, at which the rate decays",
    ),
    "optim.lr_decay_rate": Field(
        POSITIVE_FRACTION,
        "factor of each decay",
    ),
    "optim.warmup_steps": Field(
        integer(0),
        "linear from 0",
    ),
    "optim.ema_decay": Field(
        DECAY,
        "of averaged parameters, which are then evaluated and predicted with; 0 keeps none",
    ),
    "optim.ema_warmup": Field(
        BOOL,
        "less decay in the first steps, so that random weights are soon forgotten; never where "
        "the source is a detector of all classes of the data",
    ),
    "steps": Field(
        integer(1),
        "of training",
    ),
    "log_every": Field(
        integer(1),
        "steps between lines of metrics.jsonl",
    ),
    "eval_every": Field(
        integer(0),
        "steps between evaluations; 0: only at the end",
    ),
    "eval_batch_size": Field(
        integer(0),
        "images of all devices together in evaluation and prediction; 0: as many as batch_size",
    ),
    "patience": Field(
        integer(0),
        "evaluations without a better score after which training stops; 0 never stops it",
    ),
    "save_every": Field(
        integer(0),
        "steps between checkpoints; 0: only at evaluations and the end",
    ),
    "postprocess.score_threshold": Field(
        FRACTION,
        "a score must be above it",
    ),
    "postprocess.iou_threshold": Field(
        FRACTION,
        "of non-maximum suppression",
    ),
    "postprocess.top_k_per_class": Field(
        integer(1),
        "boxes of each class that enter suppression",
    ),
    "postprocess.top_k": Field(
        integer(1),
        "detections of an image",
    ),
    "postprocess.clip": Field(
        choice("first", "last", "none"),
        "boxes are clipped to the image before suppression, after it, or not",
    ),
    "postprocess.class_agnostic": Field(
        BOOL,
        "suppression over all classes together, and one class for each prior",
    ),
    "parallel": Field(
        choice("pmap", "jit"),
        "pmap, or jit with a sharded batch",
    ),
    "deterministic": Field(
        BOOL,
        "the same bits every time on a GPU too; slower",
    ),
}

# (fields, whether their values fit together, what a message says after the first field's value).
CROSS_FIELD_RULES = (
    (
        ("data.test", "data.val", "data.split"),
        lambda test, val, split: bool(test or val or any(split[1:])),
        "leaves nothing to score: name a test or a validation set, or set config.data.split, as "
        "to (0.8, 0.1, 0.1)",
    ),
    (
        ("data.val", "data.split"),
        lambda val, split: not (val and split and split[1]),
        "names a set that config.data.split makes too: leave one of the two out",
    ),
    (
        ("data.test", "data.split"),
        lambda test, split: not (test and split and split[2]),
        "names a set that config.data.split makes too: leave one of the two out",
    ),
    (
        ("model.head_kernel", "model.head"),
        lambda kernel, head: kernel % 2 == 1 or head == "conv",
        "is even, which would enlarge the maps of lite heads: use an odd size",
    ),
    (
        ("optim.warmup_steps", "steps", "optim.schedule", "optim.lr_decay_fractions"),
        lambda warmup, steps, schedule, fractions: (
            warmup < steps * min(fractions if schedule == "step" else (), default=1)
        ),
        "does not end before the first decay, or before the end: shorten it, as to "
        "config.optim.warmup_steps=1, or train longer",
    ),
    (
        ("steps", "batch_size"),
        lambda steps, batch_size: steps * batch_size <= INT32_MAX,
        "at this batch size makes more samples than 32 bits can number: use fewer",
    ),
    (
        ("model.norm_batch_size", "batch_size"),
        lambda size, batch_size: not size or batch_size % size == 0,
        "must divide the batch: use a divisor, or 0 for the whole batch",
    ),
    (
        ("matching.negative_threshold", "matching.threshold"),
        lambda negative, threshold: negative <= threshold or negative == 1,
        "is above the threshold, so that it leaves no prior out: lower it, or write 1.0 for none",
    ),
    (
        ("augment.iou_crop.aspect_ratio", "augment.iou_crop.scale"),
        lambda ratio, scale: ratio[0] * scale[1] ** 2 <= 1 and ratio[1] >= scale[1] ** 2,
        "has no patch of the largest scale inside the image: include 1, or lower the scale",
    ),
    (
        ("priors.formula.s_min", "priors.formula.first", "priors.formula.s_max"),
        lambda s_min, first, s_max: first < s_min <= s_max,
        "must be above first, the scale of a finer level, and not above s_max",
    ),
    (
        ("priors.aspect_ratios", "priors.sizes", "priors.strides", "priors.extra_square"),
        lambda levels, sizes, strides, extra: (
            len(sizes) in (0, len(levels) + 1, len(levels) + (extra != "none"))
            and len(strides) in (0, len(levels))
        ),
        "has one entry for each level: write one more of sizes and as many strides, or () for "
        "either",
    ),
    (
        ("priors.sizes", "priors.floor_sizes"),
        lambda sizes, floor: not floor or not sizes or sizes[0] >= 1,
        "rounded down leaves a prior without area: begin at 1, or set floor_sizes to False",
    ),
    (
        ("postprocess.top_k", "postprocess.top_k_per_class", "data.classes"),
        lambda top_k, per_class, classes: not classes or top_k <= per_class * len(classes),
        "is more than all classes can give: lower it or raise top_k_per_class",
    ),
)
