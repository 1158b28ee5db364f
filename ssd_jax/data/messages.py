"""Parts of messages: lists, paths, names and values of files, cut to what a line holds."""

import os
import reprlib
from collections.abc import Sequence

_MAX_LISTED = 5  # errors in one message, files behind one count
_MAX_NAME = 1000  # characters

_short = reprlib.Repr()
_short.maxlevel = 2
_short.maxlist = _short.maxdict = 4
_short.maxstring = _short.maxother = 200


def join_truncated(items: Sequence[str], separator: str) -> str:
    """The first items of a list, and how many more there are."""
    more = [f"and {len(items) - _MAX_LISTED} more"] if len(items) > _MAX_LISTED else []
    return separator.join([*items[:_MAX_LISTED], *more])


def shorten(value: object) -> str:
    """A value of a file as Python writes it, without the middle of what is long or deep."""
    return _short.repr(value)


def printable(text: str | os.PathLike) -> str:
    """A path or a name as it is; one that no terminal shows, escaped."""
    text = str(text)
    return text if text.isprintable() and len(text) <= _MAX_NAME else shorten(text)
