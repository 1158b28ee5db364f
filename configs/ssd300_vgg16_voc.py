"""SSD300 on VGG16 for PASCAL VOC 07+12: the paper's main experiment, and the base of the others.

Source: Liu et al., ECCV 2016 (arXiv:1512.02325) section 3.1, with the numbers of the authors'
`ssd_pascal.py`. Wants VOCdevkit/VOC2007 and VOCdevkit/VOC2012 under the working directory.

    python -m ssd_jax.main --config=configs/ssd300_vgg16_voc.py[:PRESET]

PRESET is the name of an implementation whose rules are followed: caffe, torchvision, tensorflow
or nvidia (see presets.py).

Hardware and hours: not measured here.
Score: the paper's 77.2 mAP on VOC2007 test (11-point) starts from ImageNet weights. Not measured
here.
"""

from ml_collections import ConfigDict

from configs import presets


def get_config(preset: str = "") -> ConfigDict:
    """The experiment, in the order of the pipeline; `preset` is a function of `presets`."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 32  # of all devices together
    config.image_size = (300, 300)  # height, width of the network's input

    config.data = ConfigDict()
    config.data.train = (  # sets joined: voc:FOLDER:SPLIT or shapes:train:COUNT
        "voc:VOCdevkit/VOC2007:trainval",
        "voc:VOCdevkit/VOC2012:trainval",
    )
    config.data.val = ()  # chooses the best checkpoint; () leaves that to the test set
    config.data.test = ("voc:VOCdevkit/VOC2007:test",)
    config.data.split = ()  # as (0.8, 0.1, 0.1): parts of data.train instead of sets of their own
    config.data.bad = "refuse"  # files that cannot be read; skip leaves them out
    config.data.classes = (  # () infers the list from the training set
        "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
        "train", "tvmonitor",
    )  # fmt: skip
    config.data.orientation = "viewer"
    config.data.cache = ""  # folder for decoded images, for fast disks and slow cores
    config.data.cache_gib = 64.0  # of that folder at most
    config.data.workers = 0  # processes that read images; 0 = threads of the trainer

    config.augment = augment = ConfigDict()
    augment.geometric = ("zoom_out", "iou_crop", "flip")  # in this order, one warp in the end
    augment.zoom_out = ConfigDict({"probability": 0.5, "max_ratio": 4.0})
    augment.iou_crop = ConfigDict()
    augment.iou_crop.min_ious = (0.1, 0.3, 0.5, 0.7, 0.9)  # a sampler each, beside two others
    augment.iou_crop.scale = (0.3, 1.0)  # of the image's side
    augment.iou_crop.aspect_ratio = (0.5, 2.0)
    augment.iou_crop.trials = 50  # of each sampler
    augment.iou_crop.selection = "success"  # one of what samplers accepted; mode: one sampler first
    augment.iou_crop.shape = "aspect"  # a scale and an aspect ratio; sides: width and height apart
    augment.iou_crop.accept = "any"  # the IoU of one box is enough; all: of every box
    augment.flip = ConfigDict({"horizontal": 0.5, "vertical": 0.0})
    augment.photometric = ConfigDict()  # inside the compiled step
    augment.photometric.operations = ("brightness", "contrast", "saturation", "hue")
    augment.photometric.probability = 0.5  # of each operation
    augment.photometric.brightness = 32.0  # added at most, of 255
    augment.photometric.contrast = (0.5, 1.5)  # factor
    augment.photometric.saturation = (0.5, 1.5)  # factor
    augment.photometric.hue = 0.1  # of a full turn
    augment.photometric.channel_order = 0.0  # probability of another order, as an operation

    config.model = model = ConfigDict()
    model.name = "vgg"  # a module of ssd_jax.models
    model.backbone = ConfigDict({"input_size": 300})
    model.head = "conv"  # or lite, depthwise and 1 x 1
    model.head_kernel = 3
    model.mean = (123.0, 117.0, 104.0)  # RGB, 0 … 255; also the color outside the image
    model.std = (1.0, 1.0, 1.0)
    model.norm_batch_size = 0  # images over which a batch norm averages; 0: the whole batch
    model.dtype = "float32"  # of activations; parameters and losses are always float32

    config.init = ConfigDict()  # weights to start from (docs/weights.md)
    config.init.source = ""  # a run folder or a weight file; random ones without
    config.init.format = ""  # of a file: torchvision, tflite, caffe or npz
    config.init.what = "detector"  # or backbone, which leaves the heads random
    config.init.lr_multiplier = 1.0  # where the source is a detector of all classes

    config.priors = priors = ConfigDict()
    # Pixels, one size for each map and one more; () takes them from the paper's formula.
    priors.sizes = (30.0, 60.0, 111.0, 162.0, 213.0, 264.0, 315.0)
    # Equation 4, as fractions of the shorter side; `first` > 0 adds a finest level below s_min.
    priors.formula = ConfigDict({"s_min": 0.2, "s_max": 0.9, "first": 0.1})
    priors.aspect_ratios = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
    priors.extra_square = "second"  # position of the √(s·s′) square: second, last, none
    priors.first_level = ()  # explicit (width, height) of the finest level's boxes, instead
    priors.strides = (8.0, 16.0, 32.0, 64.0, 100.0, 300.0)  # pixels; () = even grid
    priors.floor_sizes = False  # round sizes down to integers, as Caffe does
    priors.clip = "none"  # or corners, size, center_size: what is clipped to [0, 1]

    config.matching = ConfigDict()
    config.matching.matcher = "bipartite"  # or best_prior
    # Which box gets a prior that is the best one of several: the best IoU, or first, last.
    config.matching.conflict_resolution = "best"
    config.matching.threshold = 0.5
    config.matching.strict = False  # whether an IoU must be above the threshold
    # A prior whose best IoU lies between this and the threshold is not mined; 1 leaves none out.
    config.matching.negative_threshold = 1.0
    config.matching.difficult = (
        "train"  # on difficult boxes, or ignore, drop; crowds are always ignored
    )
    config.matching.variances = (0.1, 0.1, 0.2, 0.2)

    config.loss = ConfigDict()
    # Or sigmoid (binary cross-entropy of all columns), sigmoid_classes (without the background),
    # focal (likewise, with less weight for what is predicted well).
    config.loss.classification = "softmax"
    config.loss.focal = ConfigDict({"alpha": 0.25, "gamma": 2.0})  # of RetinaNet
    config.loss.negatives = "hard"  # or random, all
    config.loss.negative_ratio = 3.0  # to the positives of an image
    config.loss.normalizer = "batch"  # positives of the whole batch, or of each image
    config.loss.localization_weight = 1.0  # the paper's alpha

    config.optim = optim = ConfigDict()
    optim.name = "sgd"  # or rmsprop
    optim.learning_rate = 1e-3
    optim.momentum = 0.9
    optim.rmsprop = ConfigDict({"decay": 0.9, "epsilon": 1.0})
    optim.weight_decay = 5e-4
    optim.weight_decay_params = ("*/kernel",)  # shell patterns of parameter names
    optim.frozen = ()  # patterns of parameters that do not train; their norms keep their statistics
    optim.bias_lr_multiplier = 1.0  # of the learning rate, for biases; Caffe has 2
    optim.clip_norm = 0.0  # maximum norm of the gradient; 0 does not clip
    optim.schedule = "step"  # or cosine
    optim.lr_decay_fractions = (2 / 3, 5 / 6)  # of `steps`
    optim.lr_decay_rate = 0.1
    optim.warmup_steps = 1000  # the original has none; without it training can diverge
    optim.ema_decay = 0.0  # of averaged parameters, which are then evaluated; 0 keeps none
    optim.ema_warmup = True  # less decay in the first steps, TensorFlow's rule

    config.steps = 120_000
    config.log_every = 50
    config.eval_every = 10_000
    config.eval_batch_size = 0  # as batch_size; a larger one where memory allows it is faster
    config.save_every = 1_000
    config.patience = 0  # evaluations without a better score, after which training stops

    config.postprocess = ConfigDict()
    config.postprocess.score_threshold = 0.01
    config.postprocess.iou_threshold = 0.45
    config.postprocess.top_k_per_class = 400
    config.postprocess.top_k = 200
    config.postprocess.class_agnostic = False
    config.postprocess.clip = "last"  # boxes at the image's border: first, last or none

    config.parallel = "pmap"  # or jit
    config.deterministic = False  # the same bits every time on a GPU too, at some speed
    return presets.apply(config.lock(), preset)
