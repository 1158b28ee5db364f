"""The baseline of comparisons: torchvision's SSD. PyTorch is imported only inside functions."""

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from ssd_jax.runtime.background import usable_cores

# Wheels of torchvision hold operators compiled for CUDA, which do not load beside a PyTorch for
# CPUs. The one that a detector needs is then compiled here: greedy NMS of sorted boxes, the same
# quadratic loop.
_NMS = r"""
#include <stdlib.h>
long nms(const float *box, const float *area, long count, float limit, long *kept) {
  char *suppressed = calloc(count, 1);
  long size = 0;
  for (long i = 0; i < count; i++) {
    if (suppressed[i]) continue;
    kept[size++] = i;
    const float *a = box + 4 * i;
    for (long j = i + 1; j < count; j++) {
      if (suppressed[j]) continue;
      const float *b = box + 4 * j;
      float x0 = a[0] > b[0] ? a[0] : b[0], y0 = a[1] > b[1] ? a[1] : b[1];
      float x1 = a[2] < b[2] ? a[2] : b[2], y1 = a[3] < b[3] ? a[3] : b[3];
      float w = x1 > x0 ? x1 - x0 : 0, h = y1 > y0 ? y1 - y0 : 0, inter = w * h;
      if (inter / (area[i] + area[j] - inter) > limit) suppressed[j] = 1;
    }
  }
  free(suppressed);
  return size;
}
"""
_libraries = []  # operators stay registered as long as these live


def missing(nms: bool = False) -> str:
    """Why torchvision (with `nms`: its detections) cannot be measured; "" where it can."""
    for name, title in (("torch", "PyTorch"), ("torchvision", "torchvision")):
        if importlib.util.find_spec(name) is None:
            return f"{title} is not installed"
    if nms and not operators_load() and not shutil.which("cc"):
        return "torchvision's operators do not load, and there is no C compiler"
    return ""


def nms_note() -> str:
    """A note for rows that include torchvision's NMS."""
    return "" if operators_load() else "baseline's NMS compiled from C here"


def operators_load() -> bool:
    """Whether torchvision's own compiled operators can be loaded."""
    import torch

    folder = importlib.util.find_spec("torchvision").submodule_search_locations[0]
    try:
        torch.ops.load_library(str(next(Path(folder).glob("_C*.so"))))
    except (OSError, StopIteration):
        return False
    return True


def torchvision():
    """The module, with working operators, and PyTorch with as many threads as XLA."""
    import torch

    torch.set_num_threads(usable_cores())
    if not operators_load() and not _libraries:
        _define_operators(torch)
    import torchvision

    if _libraries:
        torchvision.extension._has_ops = lambda: True
    return torchvision


def ssd300(classes: int):
    """torchvision's SSD300-VGG16 with random weights, channels last."""
    import torch

    build = torchvision().models.detection.ssd300_vgg16
    torch.manual_seed(0)
    model = build(weights=None, weights_backbone=None, num_classes=classes)
    return model.to(memory_format=torch.channels_last)


class Training:
    """A training step of a torchvision detector: its own loss, SGD with momentum.

    `batch` is the subject's; on CUDA the network runs in bfloat16 by autocast.
    """

    def __init__(self, model, batch: dict, device: str = "cpu"):
        import torch

        self._torch, self._device = torch, device
        self.model = model.train().to(device)
        self._images = torch.from_numpy(batch["image"]).to(device)
        self._targets = torchvision_targets(batch, device)
        self._optimizer = torch.optim.SGD(
            model.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4
        )

    def __call__(self) -> None:
        torch = self._torch
        images = list(self._images.permute(0, 3, 1, 2).float() / 255)
        with torch.autocast("cuda", torch.bfloat16, enabled=self._device == "cuda"):
            losses = self.model(images, [dict(target) for target in self._targets])
        self._optimizer.zero_grad()
        sum(losses.values()).backward()
        self._optimizer.step()
        if self._device == "cuda":
            torch.cuda.synchronize()

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(each.numel() for each in self.model.parameters() if each.requires_grad)


def torchvision_targets(batch: dict, device: str = "cpu") -> list[dict]:
    """The boxes of a batch in torchvision's form: pixels, without padding."""
    import torch

    height, width = batch["image"].shape[1:3]
    scale = np.array([width, height, width, height], np.float32)
    return [
        {
            "boxes": torch.from_numpy(boxes[labels > 0] * scale).to(device),
            "labels": torch.from_numpy(labels[labels > 0].astype(np.int64)).to(device),
        }
        for boxes, labels in zip(batch["boxes"], batch["labels"])
    ]


def forward_gflop(model, size: tuple[int, int]) -> float:
    """Multiplications and additions of a forward pass of one image, as PyTorch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter, training = FlopCounterMode(display=False), model.training
    model.eval()  # batch norm of one position needs more than one image otherwise
    with counter, torch.no_grad():
        model.head(list(model.backbone(torch.zeros(1, 3, *size)).values()))
    model.train(training)
    return counter.get_total_flops() / 1e9


def to_flax_params(model, params: dict) -> dict:
    """Parameters of torchvision's SSD300-VGG16 by the names of `params`, layer by layer."""
    import torch

    convolutions = [each for each in model.modules() if isinstance(each, torch.nn.Conv2d)]
    backbone = [name for name in params["backbone"] if name != "conv4_3_norm"]
    backbone.sort(key=_depth)
    heads = sorted(params["heads"])  # classification_0 … 5, localization_0 … 5
    layers = [("backbone", name) for name in backbone] + [("heads", name) for name in heads]
    by_name = {"backbone": {}, "heads": {}}
    for (part, name), layer in zip(layers, convolutions, strict=True):
        by_name[part][name] = {
            "kernel": layer.weight.detach().permute(2, 3, 1, 0).contiguous().numpy(),
            "bias": layer.bias.detach().numpy(),
        }
    by_name["backbone"]["conv4_3_norm"] = {"scale": model.backbone.scale_weight.detach().numpy()}
    return by_name


def _depth(name: str) -> tuple[int, ...]:
    """Sort key of a layer of `models/vgg.py`: conv5_3 < fc6 < fc7 < conv6_1."""
    if name.startswith("fc"):
        return 5, 9, int(name[2:])
    return tuple(int(part) for part in name.removeprefix("conv").split("_"))


def _define_operators(torch) -> None:
    library = torch.library.Library("torchvision", "DEF")
    _libraries.append(library)
    for name in ("nms", "qnms"):  # torchvision registers fake kernels for both when imported
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    if shutil.which("cc"):
        library.impl("nms", _compiled_nms(torch), "CPU")


def _compiled_nms(torch):
    with tempfile.TemporaryDirectory() as folder:
        source, shared = Path(folder, "nms.c"), Path(folder, "nms.so")
        source.write_text(_NMS)
        subprocess.run(["cc", "-O3", "-shared", "-fPIC", "-o", shared, source], check=True)
        function = ctypes.CDLL(str(shared)).nms
    function.restype = ctypes.c_long
    function.argtypes = (
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_void_p,
    )  # fmt: skip

    def nms(boxes, scores, iou_threshold):
        order = scores.argsort(descending=True, stable=True)
        boxes = boxes[order].contiguous()
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        kept = torch.empty(len(order), dtype=torch.int64)
        size = function(
            boxes.data_ptr(), areas.data_ptr(), len(order), iou_threshold, kept.data_ptr()
        )
        return order[kept[:size]]

    return nms
