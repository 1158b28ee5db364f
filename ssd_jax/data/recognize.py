"""What a folder of photographs and annotations is: its format, splits, classes and counts."""

import os
from pathlib import Path

from ssd_jax.data.messages import join_truncated, printable
from ssd_jax.data.readings import lists, voc, yolo
from ssd_jax.data.readings.contents import Contents, list_contents
from ssd_jax.data.readings.reading import Reading
from ssd_jax.errors import DataError

_EXPECTED = (
    "expected photographs with annotations of PASCAL VOC (a.jpg and a.xml), YOLO (images/a.jpg "
    "and labels/a.txt, or both in one folder), COCO (a .json) or a .csv list of boxes, for example "
    "images/a.jpg and annotations/a.xml; docs/data.md lists the layouts"
)


def recognize(folder: str | os.PathLike) -> list[Reading]:
    """The ways to read a folder; one, unless it holds annotations of several data sets or formats.

    `~` is the home folder. Reads names of files, and annotations as far as they name images and
    classes, but no image. Raises DataError where there is none, with what the folder holds and
    what is expected, and for a folder that cannot be read.
    """
    contents = list_contents(Path(folder).expanduser())
    readings = [
        *voc.find(contents),
        *yolo.find(contents),
        *lists.find_coco(contents),
        *lists.find_csv(contents),
    ]
    if not readings:
        raise DataError(_describe_nothing(contents))
    return readings


def _describe_nothing(contents: Contents) -> str:
    problems = join_truncated(list(dict.fromkeys(contents.problems)), "\n")
    return (
        f"{printable(contents.folder)}: no photographs with annotations; it holds "
        f"{contents.count_by_suffix()}; {_EXPECTED}" + (f"\n{problems}" if problems else "")
    )
