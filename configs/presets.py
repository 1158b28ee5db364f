"""Rules of other implementations: a function each that sets them in an experiment.

    python -m ssd_jax.main --config=configs/ssd300_vgg16_voc.py:caffe --workdir=runs/caffe

A preset leaves data, network, sizes of priors and length of training as they are, and sets every
rule in which implementations disagree: matching, loss, crops and colors, optimizer, thresholds.
One difference has no field, because it changes no result: the score by which negatives are mined
(-log p(background), or the cross-entropy with the background as target) is the same number.
Warm-up and decay of the rate are those of each project's own script. Not measured: no score of
an implementation has been reproduced here yet.
"""

from ml_collections import ConfigDict

from ssd_jax.errors import ConfigError

_L2NORM = "*_norm/scale"  # of VGG; batch norms are called otherwise


def apply(config: ConfigDict, name: str) -> ConfigDict:
    """The config with a preset's rules, or as it is for "". Raises ConfigError for no preset."""
    if name and name not in PRESETS:
        raise ConfigError(f"no preset {name!r} for a config: write one of {', '.join(PRESETS)}")
    if name:
        PRESETS[name](config)
    return config


def caffe(config: ConfigDict) -> None:
    """The authors' own code (weiliu89/caffe, branch ssd).

    Not reproduced: one of five interpolations at random (here bilinear); colors are distorted
    before the mean color fills the canvas, and rounded to integers (here after, in float32);
    8-bit hue, which cannot turn below red; compression as JPEG after distortion, zoom-out and
    crop; crowds of COCO are background there; the loss is divided by the positives of a GPU.
    """
    _crop(config, trials=50, selection="success", shape="aspect", accept="any")
    config.augment.geometric = ("zoom_out", "iou_crop", "flip")
    _colors(config, ("brightness", "contrast", "saturation", "hue"), hue=36 / 360)
    config.priors.update({"extra_square": "second", "floor_sizes": True, "clip": "none"})
    _match(config, "bipartite", negative_threshold=0.5)
    _loss(config, "softmax", "batch")
    _optimize(config, rate=1e-3, decay=5e-4, decayed=("*/kernel", _L2NORM), warmup=0)
    config.optim.bias_lr_multiplier = 2.0
    _detect(config, score=0.01, iou=0.45, each=400, all_classes=200, clip="none")


def torchvision(config: ConfigDict) -> None:
    """torchvision's `ssd300_vgg16` and its reference script for detection.

    Not reproduced: brightness as a factor, contrast about the mean gray, and colors distorted
    before the geometry; a crop's aspect ratio in pixels (here in fractions of the image); a box
    gets its best prior even where they do not touch; the loss is divided by the positives of a GPU.
    """
    _crop(config, trials=40, selection="mode", shape="sides", accept="any")
    config.augment.geometric = ("zoom_out", "iou_crop", "flip")
    every = ("brightness", "contrast", "saturation", "hue", "channel_order")
    _colors(config, every, hue=0.05, channel_order=0.5)
    config.priors.update({"extra_square": "second", "floor_sizes": False, "clip": "size"})
    _match(config, "best_prior", conflict_resolution="last", difficult="drop")
    _loss(config, "softmax", "batch")
    _optimize(config, rate=2e-3, decay=5e-4, decayed=("*",), warmup=1000)
    config.optim.lr_decay_fractions = (80 / 120, 110 / 120)
    _detect(config, score=0.01, iou=0.45, each=400, all_classes=200, clip="first")


def tensorflow(config: ConfigDict) -> None:
    """TensorFlow's object detection API, as in `ssd_mobilenet_v1_coco`.

    Not reproduced: suppression of overlapping priors at IoU .99 before mining, of at most 3000,
    positives too; crops by the covered part of an object, which keep objects by that part too
    (here IoU and the center), and each sampler leaves 15 images in 100 whole. Difficult boxes are
    treated as the config says; there the records decide.
    """
    _crop(config, trials=50, selection="mode", shape="aspect", accept="any")
    config.augment.iou_crop.scale = (0.1**0.5, 1.0)  # an area of a tenth at least
    config.augment.geometric = ("flip", "iou_crop")
    _colors(config, ())
    config.priors.update({"extra_square": "last", "floor_sizes": False, "clip": "none"})
    _match(config, "best_prior", conflict_resolution="first")
    _loss(config, "sigmoid", "batch")
    _optimize(config, rate=4e-3, decay=4e-5, decayed=("*/kernel",), warmup=0)
    config.batch_size = 24
    config.optim.update({"name": "rmsprop", "lr_decay_fractions": ()})
    config.optim.rmsprop = ConfigDict({"decay": 0.9, "epsilon": 1.0})
    _detect(config, score=1e-8, iou=0.6, each=100, all_classes=100, clip="last")


def nvidia(config: ConfigDict) -> None:
    """NVIDIA's SSD300 in DeepLearningExamples, whose rules are MLPerf's.

    Not reproduced: boxes of a kind next to each other in the order of priors; brightness as a
    factor and contrast about gray; images without objects are skipped there.
    """
    _crop(config, trials=1, selection="mode", shape="sides", accept="all")
    config.augment.geometric = ("iou_crop", "flip")
    # The script asks for half a turn and its library takes degrees.
    _colors(config, ("brightness", "contrast", "saturation", "hue"), hue=0.5 / 360)
    config.augment.photometric.probability = 1.0
    config.priors.update({"extra_square": "second", "floor_sizes": False, "clip": "center_size"})
    _match(config, "best_prior", conflict_resolution="last", strict=True, difficult="drop")
    _loss(config, "softmax", "image")
    _optimize(config, rate=2.6e-3, decay=5e-4, decayed=("*/kernel",), warmup=300)
    config.optim.lr_decay_fractions = (43 / 65, 54 / 65)
    _detect(config, score=0.05, iou=0.5, each=200, all_classes=200, clip="none")


def _crop(config: ConfigDict, **rules) -> None:
    config.augment.iou_crop.update(
        {"min_ious": (0.1, 0.3, 0.5, 0.7, 0.9), "scale": (0.3, 1.0), "aspect_ratio": (0.5, 2.0)}
    )
    config.augment.iou_crop.update(rules)


def _colors(
    config: ConfigDict, operations: tuple[str, ...], hue: float = 0.0, channel_order: float = 0.0
) -> None:
    config.augment.photometric.update(
        {
            "operations": operations, "probability": 0.5, "brightness": 32.0,
            "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": hue,
            "channel_order": channel_order,
        }
    )  # fmt: skip


def _match(config: ConfigDict, matcher: str, **rules) -> None:
    always = {
        "threshold": 0.5,
        "negative_threshold": 1.0,
        "conflict_resolution": "best",
        "strict": False,
    }
    config.matching.update(always | {"matcher": matcher} | rules)


def _loss(config: ConfigDict, classification: str, normalizer: str) -> None:
    config.loss.update(
        {
            "classification": classification, "normalizer": normalizer, "negatives": "hard",
            "negative_ratio": 3.0, "localization_weight": 1.0,
        }
    )  # fmt: skip


def _optimize(
    config: ConfigDict, rate: float, decay: float, decayed: tuple[str, ...], warmup: int
) -> None:
    config.batch_size = 32
    config.optim.update(
        {
            "name": "sgd", "learning_rate": rate, "momentum": 0.9, "weight_decay": decay,
            "weight_decay_params": decayed, "bias_lr_multiplier": 1.0, "clip_norm": 0.0,
            "schedule": "step", "warmup_steps": warmup,
        }
    )  # fmt: skip


def _detect(
    config: ConfigDict, score: float, iou: float, each: int, all_classes: int, clip: str
) -> None:
    config.postprocess.update(
        {
            "score_threshold": score, "iou_threshold": iou, "top_k_per_class": each,
            "top_k": all_classes, "clip": clip,
        }
    )  # fmt: skip


PRESETS = {preset.__name__: preset for preset in (caffe, torchvision, tensorflow, nvidia)}
