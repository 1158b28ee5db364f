"""torch's DataLoader with torchvision's transforms for SSD, as its reference training uses them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from scripts.benchmarks import rivals

_tv = rivals.torchvision()
from torchvision import tv_tensors  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

Truths = list[tuple[Path, np.ndarray, np.ndarray]]


class Files(Dataset):
    """Image files with boxes [N, 4] normalized and labels [N] -> augmented uint8 300 x 300.

    Pillow images: the faster of torchvision's two ways on a CPU. The last step to float is left
    out, since ours leaves it to the device.
    """

    def __init__(self, truths: Truths):
        self._truths = truths
        self._augment = v2.Compose([
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=(123, 117, 104)),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.Resize((300, 300)),
            v2.SanitizeBoundingBoxes(),
            v2.PILToTensor(),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self._truths)

    def __getitem__(self, i: int):
        path, corners, labels = self._truths[i]
        image = Image.open(path).convert("RGB")
        scale = np.array([image.width, image.height] * 2, np.float32)
        target = {
            "boxes": tv_tensors.BoundingBoxes(
                torch.from_numpy(corners * scale), format="XYXY",
                canvas_size=(image.height, image.width),
            ),
            "labels": torch.from_numpy(labels.astype(np.int64)),
        }  # fmt: skip
        return self._augment(image, target)


class Epoch:
    """A call that reads the images of `order` once, by `workers` processes that live on."""

    def __init__(self, truths: Truths, order: list[int], batch_size: int, workers: int):
        self._loader = DataLoader(
            Files(truths), batch_size, sampler=order, num_workers=workers, collate_fn=_collate,
            multiprocessing_context="spawn", persistent_workers=True,
        )  # fmt: skip
        self._count = len(order)

    def __call__(self) -> None:
        read = sum(len(images) for images, _ in self._loader)
        if read != self._count:
            raise ValueError(f"{read} images instead of {self._count}")


def _collate(examples: list):
    images, targets = zip(*examples)
    return torch.stack(images), targets
