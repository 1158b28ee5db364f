"""The detector's network: images -> (logits, offsets), and how a config names its backbone."""

import dataclasses
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32
from ml_collections import ConfigDict

from ssd_jax import models
from ssd_jax.errors import ConfigError
from ssd_jax.models.heads import Heads

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class SSD(nn.Module):
    """Normalized images [B, H, W, 3] -> logits [B, A, C] and offsets [B, A, 4], both float32.

    `backbone` maps (images, train) to a tuple of feature maps, fine to coarse. Class 0 is the
    background; offsets are encoded against the priors (`boxes.encode`).
    """

    backbone: nn.Module
    priors_per_location: tuple[int, ...]
    num_classes: int
    head_kernel: int = 3
    head: str = "conv"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], train: bool
    ) -> tuple[Float32[Array, "B A {self.num_classes}"], Float32[Array, "B A 4"]]:
        heads = Heads(
            self.priors_per_location,
            self.num_classes,
            self.head_kernel,
            self.head,
            # A network's norms average alike; one without any leaves the heads their own.
            getattr(self.backbone, "norm_momentum", Heads.norm_momentum),
            self.dtype,
            self.axis_name,
            name="heads",
        )
        return heads(self.backbone(images, train), train)


def build_network(
    model: ConfigDict,
    num_classes: int,
    priors_per_location: tuple[int, ...],
    axis_name: str | None = None,
) -> SSD:
    """The network that `config.model` describes.

    Args:
        model: `name` (a file of `ssd_jax/models` with a `Backbone`), `backbone` (its fields),
            `head` ("conv" or "lite"), `head_kernel` and `dtype` ("float32" or "bfloat16").
        num_classes: C, the background included.
        priors_per_location: boxes at each position of each feature map, fine to coarse.
        axis_name: mapped axis over which batch norm averages; None for a single program.

    Raises:
        ConfigError: unknown name, or a field or value that the backbone cannot work with.
    """
    backbone = _build_backbone(model, axis_name)
    return SSD(
        backbone, tuple(priors_per_location), num_classes, model.head_kernel, model.head,
        backbone.dtype, axis_name,
    )  # fmt: skip


def feature_map_sizes(
    model: ConfigDict, image_size: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
    """Height and width of each feature map for images of `image_size` (H, W), without computing.

    Raises:
        ConfigError: as `build_network`; a value that the backbone cannot work with; or a feature
            map that vanishes because the images are too small.
    """
    images = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)

    def init(images):
        # The key is made inside, so that no device is asked for: processes may not have joined yet.
        backbone = _build_backbone(model, None)
        return backbone.init_with_output(jax.random.key(0), images, train=False)

    try:
        maps, _ = jax.eval_shape(init, images)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise ConfigError(
            f"config.model.backbone={dict(model.backbone)} cannot be built; correct a value: "
            f"{type(error).__name__}: {error}".splitlines()[0]
        ) from error
    sizes = tuple((x.shape[1], x.shape[2]) for x in maps)
    if min(min(size) for size in sizes) < 1:
        raise ConfigError(
            f"images of {image_size[0]} x {image_size[1]} are too small for model.name "
            f"{model.name!r}: its feature maps would be {sizes}; raise the image size"
        )
    return sizes


def _build_backbone(model: ConfigDict, axis_name: str | None) -> nn.Module:
    """The backbone that `config.model` names, with its fields checked."""
    try:
        backbone = importlib.import_module(f"{models.__name__}.{model.name}").Backbone
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not error.name.startswith(models.__name__):
            raise  # the file is there, and imports a module that is not
        raise ConfigError(
            f"model.name is {model.name!r}: no file of ssd_jax/models with a Backbone; there are "
            "vgg, mobilenet_v1, mobilenet_v3, resnet and small"
        ) from error
    given_by_build_network = {"dtype", "axis_name", "parent", "name"}
    fields = {field.name for field in dataclasses.fields(backbone)} - given_by_build_network
    if unknown := sorted(set(model.backbone) - fields):
        raise ConfigError(
            f"model.backbone has {', '.join(unknown)}, which {model.name} does not know: "
            f"its fields are {', '.join(sorted(fields))}"
        )
    for name, value in model.backbone.items():
        numbers = value if isinstance(value, tuple) else (value,)
        # Newer versions of Flax build a convolution without channels.
        if any(type(each) in (int, float) and not each > 0 for each in numbers):
            raise ConfigError(f"config.model.backbone.{name}={value!r} must be above 0")
    return backbone(**model.backbone, dtype=_DTYPES[model.dtype], axis_name=axis_name)
