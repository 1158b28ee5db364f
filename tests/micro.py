"""A detector and a data set so small that a step takes milliseconds."""

from ml_collections import ConfigDict

from configs import quickstart


def get_config(**changes) -> ConfigDict:
    """`quickstart` at 32 pixels; `changes` are dotted fields with `__` for the dot."""
    config = quickstart.get_config()
    config.batch_size = 4
    config.image_size = (32, 32)
    config.data.train = ("shapes:train:12",)
    config.data.test = ("shapes:test:6",)
    config.model.backbone = ConfigDict({"levels": 2, "widths": (4, 8)})
    config.priors.formula.first = 0.0
    config.priors.aspect_ratios = ((2.0,), (2.0,))
    config.optim.warmup_steps = 1
    config.steps = 6
    config.log_every = config.save_every = 2
    config.eval_every = 3
    config.postprocess.top_k_per_class = 20
    config.postprocess.top_k = 10
    for name, value in changes.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    return config
