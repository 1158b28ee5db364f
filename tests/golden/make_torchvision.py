"""Draw weights for torchvision's networks, and record what they compute: torchvision.npz.

    pip install torch==2.13.0 torchvision==0.28.0
    python tests/golden/make_torchvision.py

Weights, images, truths and outputs of heads are drawn from their names, so the tests draw them
again and the file holds only shapes and a sample of what torchvision made of them.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("torchvision.npz")
SIDES = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}
CLASSIFIERS = ("resnet34", "resnet50", "mobilenet_v3_large")
COLUMNS = 91


def generator(name):
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))


def weight(name, shape):
    """A tensor of a state dict, such that activations neither vanish nor explode."""
    rng, field = generator(name), name.rpartition(".")[2]
    if field == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if len(shape) > 1:
        array = rng.normal(size=shape) * np.sqrt(gain(name, shape) / np.prod(shape[1:]))
    elif field in ("weight", "running_var", "scale_weight"):
        array = rng.uniform(0.7, 1.3, shape) * (20.0 if field == "scale_weight" else 1.0)
    else:
        array = rng.normal(size=shape) * 0.1
        if "classification_head" in name and shape[0] % COLUMNS == 0:
            array[::COLUMNS] += 5.0  # background, as in a trained detector
    return array.astype(np.float32)


def gain(name, shape):
    """Of a convolution: 1.7 keeps the size of activations, in sums with shortcuts too."""
    if name == "backbone.features.0.weight":
        return 1.7 / 70**2  # VGG's pixels are not divided
    return 4.0 if "head" in name and shape[1] > 1 else 1.7  # logits of a few units


def weights(shapes):
    return {name: weight(name, shape) for name, shape in shapes}


def image(side):
    """A picture uint8 [side, side, 3] of blocks and grain."""
    rng = generator(f"image {side}")
    blocks = rng.integers(0, 256, (side // 20, side // 20, 3)).repeat(20, 0).repeat(20, 1)
    return (0.8 * blocks + 0.2 * rng.integers(0, 256, (side, side, 3))).astype(np.uint8)


def truths(side):
    """Boxes [6, 4], corners, normalized, that share no best prior, and labels [6]."""
    rng = generator(f"truths {side}")
    low, size = rng.uniform(0, 0.5, (6, 2)), rng.uniform(0.2, 0.5, (6, 2))
    boxes = np.concatenate([low, low + size], axis=1).astype(np.float32)
    return boxes, rng.integers(1, COLUMNS, 6)


def outputs(count, kind):
    """Logits [count, 91] and offsets [count, 4] of heads.

    "few" finds six classes at one prior in 400, so that the threshold on scores decides; "many"
    all classes at one in 40, and the first everywhere, so that both numbers of detections do.
    """
    rng = generator(f"{kind} outputs {count}")
    found = rng.random(count) < 1 / (400 if kind == "few" else 40)
    logits = rng.normal(size=(count, COLUMNS)) * 2.0
    if kind == "few":
        logits[:, 7:] -= 20.0
    else:
        logits[:, 1] += np.where(found, 0.0, 18.0)
    logits[:, 0] += np.where(found, 2.0, 20.0)
    offsets = rng.normal(size=(count, 4)) * 1.5  # some boxes leave the image
    return logits.astype(np.float32), offsets.astype(np.float32)


def detector(name):
    """What torchvision's detector computes with drawn weights: name -> array, and its shapes."""
    import torch
    from torchvision.models import detection

    side = SIDES[name]
    model = getattr(detection, name)(weights=None, weights_backbone=None).eval()
    shapes = load(model)
    picture = torch.tensor(image(side)).permute(2, 0, 1) / 255
    boxes, labels = truths(side)
    targets = [{"boxes": torch.tensor(boxes) * side, "labels": torch.tensor(labels)}]
    with torch.no_grad():
        images, _ = model.transform([picture])
        maps = list(model.backbone(images.tensors).values())
        found = model.head(maps)
        anchors = model.anchor_generator(images, maps)
        overlap = detection.ssd.box_ops.box_iou(targets[0]["boxes"], anchors[0])
        matches = model.proposal_matcher(overlap)
        losses = model.compute_loss(targets, found, anchors, [matches])
        detections = {}
        for kind in ("few", "many"):
            logits, offsets = map(torch.tensor, outputs(len(anchors[0]), kind))
            drawn = {"cls_logits": logits[None], "bbox_regression": offsets[None]}
            (detections[kind],) = model.postprocess_detections(drawn, anchors, images.image_sizes)
        (detections["whole"],) = model([picture])
    arrays = {
        "logits": found["cls_logits"][0],
        "offsets": found["bbox_regression"][0],
        "priors": anchors[0] / side,
        "matches": matches,
        "losses": torch.stack([losses["classification"], losses["bbox_regression"]]),
    }
    for kind, found in detections.items():
        arrays[f"{kind}_boxes"] = found["boxes"] / side
        arrays[f"{kind}_scores"] = found["scores"]
        arrays[f"{kind}_labels"] = found["labels"]
    return {key: value.numpy() for key, value in arrays.items()}, shapes


def classifier(name):
    """Feature maps of a classification network cut for SSD, [h, w, N] each, and its shapes."""
    import torch
    from torchvision import models

    model = getattr(models, name)().eval()
    shapes = load(model)
    side = 320 if name.startswith("mobilenet") else 300
    x = torch.tensor(image(side)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        if name.startswith("resnet"):
            first = model.layer3[0]
            for layer in (first.conv1, first.conv2, first.downsample[0]):
                layer.stride = (1, 1)
            parts = [torch.nn.Sequential(*list(model.children())[:7])]
        else:
            layers = model.features
            parts = [torch.nn.Sequential(*layers[:13], layers[13].block[0]),
                     torch.nn.Sequential(layers[13].block[1:], *layers[14:])]  # fmt: skip
        maps = []
        for part in parts:
            x = part(x)
            maps.append(x[0].permute(1, 2, 0).numpy())
    return maps, shapes


def load(model):
    """Give a model drawn weights and return the names and shapes of its tensors."""
    import torch

    shapes = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    drawn = {name: torch.as_tensor(array) for name, array in weights(shapes).items()}
    model.load_state_dict(drawn)
    return shapes


def sample(array, count=4000):
    """About `count` numbers of a large array, evenly through it."""
    return array.reshape(-1)[:: max(array.size // count, 1) | 1]


def main():
    arrays, listing = {}, {}
    for name in SIDES:
        found, listing[name] = detector(name)
        for key, value in found.items():
            large = key in ("logits", "offsets", "priors")
            arrays[f"{name}/{key}"] = sample(value) if large else value
    for name in CLASSIFIERS:
        maps, listing[name] = classifier(name)
        arrays |= {f"{name}/{i}": sample(values) for i, values in enumerate(maps)}
    np.savez_compressed(FILE, shapes=json.dumps(listing), **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
