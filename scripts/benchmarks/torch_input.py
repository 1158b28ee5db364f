"""PyTorch's DataLoader with torchvision's transforms for SSD, as in its reference training."""

import importlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from scripts.benchmarks import baselines

baselines.torchvision()  # defines operators, without which these modules cannot be imported
tv_tensors = importlib.import_module("torchvision.tv_tensors")
v2 = importlib.import_module("torchvision.transforms.v2")

GroundTruth = list[tuple[Path, np.ndarray, np.ndarray]]  # of each image: file, boxes, labels


class AugmentedFiles(Dataset):
    """Image files with boxes [N, 4] normalized and labels [N] -> augmented uint8 300 x 300.

    Pillow images are the faster of torchvision's two ways on a CPU. The last step to float is left
    out, since the subject leaves it to the device.
    """

    def __init__(self, ground_truth: GroundTruth):
        self._ground_truth = ground_truth
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
        return len(self._ground_truth)

    def __getitem__(self, i: int):
        path, corners, labels = self._ground_truth[i]
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
    """Each call reads the images of `order` once, by `workers` processes that stay alive."""

    def __init__(self, ground_truth: GroundTruth, order: list[int], batch_size: int, workers: int):
        self._loader = DataLoader(
            AugmentedFiles(ground_truth), batch_size, sampler=order, num_workers=workers,
            collate_fn=_collate, multiprocessing_context="spawn", persistent_workers=True,
        )  # fmt: skip
        self._count = len(order)

    def __call__(self) -> None:
        read = sum(len(images) for images, _ in self._loader)
        if read != self._count:
            raise ValueError(f"{read} images instead of {self._count}")


def _collate(examples: list):
    images, targets = zip(*examples)
    return torch.stack(images), targets
