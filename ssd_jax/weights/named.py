"""Trained weights by name: where each file is, what it was trained on, and the file itself.

Nothing is downloaded unless somebody asks for it by name. What is known of a file before its first
download is written here, and nothing else: the first digits of its SHA-256 where its name has them,
all of them where the file was seen. The whole sum is recorded at the first download, see
`runtime.download`.
"""

import difflib
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ssd_jax.errors import CheckpointError, ConfigError, ResourceError
from ssd_jax.runtime import download
from ssd_jax.runtime.files import user_cache_folder

MIRROR = "SSD_JAX_WEIGHTS_MIRROR"  # environment: HTTPS folder with HOST/PATH of each address
_HUB, _HUB_MIRROR = "https://huggingface.co", "HF_ENDPOINT"  # the hub's own variable

_CAFFE_PIXELS = (123.0, 117.0, 104.0), (1.0, 1.0, 1.0)
_IMAGENET_PIXELS = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_CENTERED_PIXELS = (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)


class NamedWeights(NamedTuple):
    """A file of trained weights that has a name."""

    address: str
    what: str  # detector, or backbone
    format: str  # of `config.init.format`
    config: str  # the experiment it belongs to, for --config
    pixels: tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of its training
    trained_on: str
    license: str  # as its source states it
    sha256: str = ""  # the digits that are published
    member: str = ""  # of an archive, the file with the weights
    member_sha256: str = ""


class WeightsFile(NamedTuple):
    """A file of weights on this machine."""

    path: Path
    format: str
    origin: dict[str, Any]  # name, address, sha256, revision: for what is made of the weights


_TORCHVISION = "https://download.pytorch.org/models/"
_NOT_STATED = "not stated for weights; torchvision's code is BSD-3-Clause"
NAMES: Mapping[str, NamedWeights] = {
    "torchvision:ssd300_vgg16": NamedWeights(
        f"{_TORCHVISION}ssd300_vgg16_coco-b556d3b4.pth", "detector", "torchvision",
        "ssd300_vgg16_coco:torchvision", _CAFFE_PIXELS, "COCO 2017", _NOT_STATED, "b556d3b4",
    ),
    "torchvision:ssdlite320_mobilenet_v3_large": NamedWeights(
        f"{_TORCHVISION}ssdlite320_mobilenet_v3_large_coco-a79551df.pth", "detector",
        "torchvision", "ssdlite320_mobilenet_v3_coco", _CENTERED_PIXELS, "COCO 2017", _NOT_STATED,
        "a79551df",
    ),
    "tflite:coco_ssd_mobilenet_v1": NamedWeights(
        "https://storage.googleapis.com/download.tensorflow.org/models/tflite/"
        "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.zip", "detector", "tflite",
        "ssd300_mobilenet_v1_tflite", _CENTERED_PIXELS, "COCO", "Apache-2.0", "",
        "detect.tflite", "e4b118e5e4531945de2e659742c7c590f7536f8d0ed26d135abcfe83b4779d13",
    ),
    "torchvision:vgg16_features": NamedWeights(
        f"{_TORCHVISION}vgg16_features-amdegroot-88682ab5.pth", "backbone", "torchvision",
        "ssd300_vgg16_voc", _CAFFE_PIXELS, "ImageNet", _NOT_STATED, "88682ab5",
    ),
    "torchvision:resnet34": NamedWeights(
        f"{_TORCHVISION}resnet34-b627a593.pth", "backbone", "torchvision", "ssd300_resnet34_coco",
        _IMAGENET_PIXELS, "ImageNet", _NOT_STATED, "b627a593",
    ),
    "torchvision:resnet50": NamedWeights(
        f"{_TORCHVISION}resnet50-11ad3fa6.pth", "backbone", "torchvision", "ssd300_resnet50_coco",
        _IMAGENET_PIXELS, "ImageNet", _NOT_STATED, "11ad3fa6",
    ),
    "hf:timm/resnet50.tv2_in1k": NamedWeights(
        f"{_HUB}/timm/resnet50.tv2_in1k/resolve/main/model.safetensors", "backbone",
        "torchvision", "ssd300_resnet50_coco", _IMAGENET_PIXELS, "ImageNet", "BSD-3-Clause",
    ),
}  # fmt: skip


def is_name(text: str) -> bool:
    """Whether a text has the form of a name, KIND:NAME of a known kind."""
    return text.partition(":")[0] in {name.partition(":")[0] for name in NAMES} and ":" in text


def find(name: str) -> NamedWeights:
    """The weights of a name. Raises ConfigError for an unknown one."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, cutoff=0.5) or NAMES
        raise ConfigError(f"no weights {name}: there are {', '.join(near)} (ssd-jax weights)")
    return NAMES[name]


def cached_path(name: str) -> Path:
    """Where the downloaded file of a name lies, or would lie."""
    kind, _, rest = name.partition(":")
    file_name = urlsplit(find(name).address).path.rpartition("/")[2]
    folder = user_cache_folder() / "weights" / kind
    return folder / (f"{rest.replace('/', '--')}.safetensors" if kind == "hf" else file_name)


def fetch(name: str) -> WeightsFile:
    """The file of a name, downloaded on the first call.

    Raises ConfigError for an unknown name, ResourceError where the file cannot be downloaded, and
    CheckpointError where it is not the file that it should be.
    """
    weights, path = find(name), cached_path(name)
    record = download.fetch(
        _mirrored(weights.address), path, weights.sha256, bool(weights.member_sha256)
    )
    origin = {"name": name, "address": weights.address, "sha256": record["sha256"]}
    origin |= {"revision": record["revision"]} if "revision" in record else {}
    if weights.member:
        path = _extract(path, weights.member, weights.member_sha256)
        origin["member"] = weights.member
    return WeightsFile(path, weights.format, origin)


def _mirrored(address: str) -> str:
    """The address at the mirror that the environment names, if it names one."""
    if mirror := os.environ.get(MIRROR):
        parts = urlsplit(address)
        return f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}"
    if address.startswith(_HUB) and (endpoint := os.environ.get(_HUB_MIRROR)):
        return endpoint.rstrip("/") + address.removeprefix(_HUB)
    return address


def _extract(archive: Path, member: str, sha256: str) -> Path:
    """A member of a zip archive as a file beside it, with this sum."""
    target = archive.with_suffix("") / member
    if target.exists() and download.file_sha256(target) == sha256:
        return target
    unfinished = target.with_name(f".{member}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            zipfile.ZipFile(archive) as source,
            source.open(member) as file,
            unfinished.open("wb") as copy,
        ):
            shutil.copyfileobj(file, copy)
        found = download.file_sha256(unfinished)
        unfinished.replace(target)
    except OSError as error:
        raise ResourceError(f"cannot write {target} ({error.strerror or error})") from error
    except (zipfile.BadZipFile, KeyError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{archive} is no archive with {member} ({error}): remove it, or find out who answers "
            "in place of the server"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    if found != sha256:
        target.unlink()
        raise CheckpointError(
            f"{member} in {archive} has the SHA-256 {found} and not {sha256}: remove the archive"
        )
    return target
