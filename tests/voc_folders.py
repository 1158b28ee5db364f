"""Folders in PASCAL VOC layout, written by tests."""

from pathlib import Path

import cv2
import numpy as np


def thing(name="dog", box=(11, 21, 50, 40), difficult=0, extra="") -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{corners}</bndbox>{extra}</object>"
    )


def xml(*objects: str, size=(100, 80)) -> str:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation>\n{sides}\n{''.join(objects)}\n</annotation>"


def add(root: Path, key: str, annotation: str | None, suffix=".jpg") -> None:
    """One image of 100x80 pixels and its annotation."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    pixels = cv2.imencode(suffix, np.full((80, 100, 3), 90, np.uint8))[1].tobytes()
    (root / "JPEGImages" / f"{key}{suffix}").write_bytes(pixels)
    if annotation is not None:
        (root / "Annotations" / f"{key}.xml").write_text(annotation, encoding="utf-8")


def split(root: Path, name: str, text: str) -> None:
    (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text, encoding="utf-8")


def put_distinct_image(folder: Path, name: str, suffix=".jpg") -> None:
    """An image whose pixels its name decides: equal files are copies, which a split keeps."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((80, 100, 3), hash_of(name), np.uint8)
    (folder / f"{name}{suffix}").write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def hash_of(name: str) -> int:
    return sum(ord(letter) * (i + 1) for i, letter in enumerate(name)) % 251


def put_voc(folder: Path, names) -> None:
    """Images and annotations with one box, side by side."""
    for name in names:
        put_distinct_image(folder, name)
        text = xml(thing("cat", (11, 21, 50, 40)))
        (folder / f"{name}.xml").write_text(text, encoding="utf-8")
