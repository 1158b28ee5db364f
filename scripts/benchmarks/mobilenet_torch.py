"""MobileNetV1-SSD300 in PyTorch, layer for layer as `ssd_jax/models/mobilenet_v1.py`.

Loss, matching and hard negatives are torchvision's. Strided layers pad by one on each side where
the subject pads as TensorFlow does: the same shapes and sums, and no copy for PyTorch.
"""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from scripts.benchmarks import baselines
from ssd_jax.models import mobilenet_v1
from ssd_jax.multibox.priors import Priors


class Backbone(nn.Module):
    """Images [B, 3, H, W] -> six feature maps, by the table of layers of the subject."""

    def __init__(self):
        super().__init__()
        layers, channels, ends = [_layer(3, 32, 3, 2)], 32, []
        for i, (width, stride) in enumerate(mobilenet_v1.SEPARABLE, start=1):
            layers.append(_layer(channels, channels, 3, stride, groups=channels))
            layers.append(_layer(channels, width, 1))
            channels = width
            if i in (11, 13):
                ends.append((len(layers), channels))
        for width in mobilenet_v1.EXTRAS:
            layers.append(_layer(channels, width // 2, 1))
            layers.append(_layer(width // 2, width, 3, 2))
            channels = width
            ends.append((len(layers), channels))
        starts = [0, *[end for end, _ in ends]]
        self.stages = nn.ModuleList(
            nn.Sequential(*layers[first:last]) for first, last in zip(starts, starts[1:])
        )
        self.channels = [channels for _, channels in ends]

    def forward(self, x):
        maps = OrderedDict()
        for i, stage in enumerate(self.stages):
            x = stage(x)
            maps[str(i)] = x
        return maps


class Head(nn.Module):
    """1 x 1 convolutions on every map, in the form of torchvision's SSD."""

    def __init__(self, channels: list[int], priors_per_location: tuple[int, ...], classes: int):
        super().__init__()
        self.classes = classes
        self.logits = nn.ModuleList(
            nn.Conv2d(c, k * classes, 1) for c, k in zip(channels, priors_per_location)
        )
        self.offsets = nn.ModuleList(
            nn.Conv2d(c, k * 4, 1) for c, k in zip(channels, priors_per_location)
        )

    def forward(self, maps):
        def flatten(layers, size):
            outputs = [layer(x).permute(0, 2, 3, 1) for layer, x in zip(layers, maps)]
            return torch.cat([y.reshape(len(y), -1, size) for y in outputs], dim=1)

        return {
            "cls_logits": flatten(self.logits, self.classes),
            "bbox_regression": flatten(self.offsets, 4),
        }


class Anchors(nn.Module):
    """The subject's priors as torchvision's anchors: pixels, for every image."""

    def __init__(self, boxes: np.ndarray, side: int):
        super().__init__()
        self.register_buffer("boxes", torch.from_numpy(boxes) * side)

    def forward(self, images, maps):
        return [self.boxes for _ in images.image_sizes]


def ssd300(classes: int, priors: Priors):
    """The detector with random weights, channels last."""
    torchvision = baselines.torchvision()
    torch.manual_seed(0)
    backbone = Backbone()
    model = torchvision.models.detection.ssd.SSD(
        backbone,
        Anchors(priors.boxes, 300),
        (300, 300),
        classes,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        head=Head(backbone.channels, priors.priors_per_location, classes),
    )
    return model.to(memory_format=torch.channels_last)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=3e-4),
        nn.ReLU6(inplace=True),
    )
