"""Names of one class in several data sets, by which a detector of one starts one of another."""

import re
from collections.abc import Sequence

# COCO's name, then those of PASCAL VOC and Open Images where they differ by more than their case,
# spaces, hyphens and underscores.
_SYNONYMS = (
    ("airplane", "aeroplane", "plane"),
    ("bicycle", "bike"),
    ("cell phone", "mobile phone"),
    ("couch", "sofa"),
    ("cow", "cattle"),
    ("dining table", "kitchen & dining room table"),
    ("donut", "doughnut"),
    ("frisbee", "flying disc"),
    ("hair drier", "hair dryer"),
    ("keyboard", "computer keyboard"),
    ("knife", "kitchen knife"),
    ("microwave", "microwave oven"),
    ("motorcycle", "motorbike"),
    ("mouse", "computer mouse"),
    ("potted plant", "houseplant"),
    ("remote", "remote control"),
    ("skis", "ski"),
    ("tv", "tv monitor", "television"),
)


def match_class_names(classes: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Class -> the one of `others` with the same name, or else with a synonym of it.

    Each of `others` is matched once, and a class without a match is left out.
    """
    exact = {name: name for name in classes if name in others}
    by_key: dict[str, str] = {}
    for name in others:
        if name not in exact:
            by_key.setdefault(_key(name), name)
    matched = dict(exact)
    for name in classes:
        if name not in matched and (other := by_key.pop(_key(name), None)):
            matched[name] = other
    return matched


def _key(name: str) -> str:
    """The same text for all names of a class."""
    squeezed = _squeeze(name)
    return _CANONICAL.get(squeezed, squeezed)


def _squeeze(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


_CANONICAL = {_squeeze(name): names[0] for names in _SYNONYMS for name in names}
