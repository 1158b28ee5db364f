"""The sets of an experiment: train, val and test, as its config names or divides them.

Which images a set has is decided once, before the first step. Where that depends on more than the
config (`data.split`, or `data.bad` = skip), the names of the images are kept with the run, and a
later start takes these.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ssd_jax.config.serialization import to_dict
from ssd_jax.data import sources
from ssd_jax.data.messages import join_truncated, printable
from ssd_jax.data.scan import Scan
from ssd_jax.data.sources import Source
from ssd_jax.data.split import image_names, split_images
from ssd_jax.data.split_names import SPLITS
from ssd_jax.errors import DataError

_IMAGES, _SPECS = "images", "data"  # keys of `Sets.kept`


class Sets(NamedTuple):
    """The sets of an experiment; None for one that it does not have."""

    train: Source
    val: Source | None
    test: Source | None
    errors: dict[str, list[DataError]]  # of each set: of the files that were skipped
    notes: list[str]  # how they were made, for people
    kept: dict[str, Any]  # JSON values to keep with the run; {} where the config tells all

    @property
    def choosing(self) -> Source:
        """The set that chooses the best checkpoint: validation, or else test."""
        source = self.test if self.val is None else self.val
        assert source is not None  # by a rule of the config
        return source

    @property
    def by_name(self) -> dict[str, Source]:
        """The sets that the experiment has."""
        sets = zip(SPLITS, (self.train, self.val, self.test))
        return {name: source for name, source in sets if source is not None}


def open_sets(
    config: ConfigDict,
    scan: Scan | None = None,
    kept: Mapping[str, Any] | None = None,
    run_classes: tuple[str, ...] = (),
) -> Sets:
    """All sets of an experiment.

    `scan` reads the files. `kept` is what `Sets.kept` was at an earlier start of the run, and
    `run_classes` its class names: older versions took names that the files do not use for classes.
    Raises what `sources.make_source` raises, and DataError where images are gone that the run has.
    """
    opened = _Opened(config, scan or make_scan(config), kept or {})
    sets = opened.open_training(tuple(config.data.classes), run_classes)
    classes = sets["train"].classes
    sets |= {name: opened.open(name, classes) for name in ("val", "test") if config.data[name]}
    return Sets(sets["train"], sets.get("val"), sets.get("test"), opened.errors, opened.notes,
                opened.describe(sets))  # fmt: skip


def open_set(
    config: ConfigDict,
    name: str,
    classes: tuple[str, ...] = (),
    scan: Scan | None = None,
    kept: Mapping[str, Any] | None = None,
) -> Source:
    """One set of an experiment: train, val or test; arguments as those of `open_sets`."""
    opened = _Opened(config, scan or make_scan(config), kept or {})
    classes = classes or tuple(config.data.classes)
    if name != "train" and config.data[name]:
        return opened.open(name, classes)
    return opened.open_training(classes)[name]


def scored_set(config: ConfigDict) -> str:
    """The set whose scores are the result: test, or val where there is no test set."""
    data = config.data
    return "test" if data.test or (data.split and data.split[2]) else "val"


def choosing_set(config: ConfigDict) -> str:
    """The set that chooses the best checkpoint: val, or test where there is no validation set."""
    data = config.data
    return "val" if data.val or (data.split and data.split[1]) else "test"


def make_scan(config: ConfigDict, previous: object = None) -> Scan:
    """The scan of an experiment's files; `previous` as in `Scan`."""
    return Scan(previous, config.data.bad == "skip", config.data.orientation)


class _Opened:
    """What is found while sets are opened."""

    def __init__(self, config: ConfigDict, scan: Scan, kept: Mapping[str, Any]):
        self._config, self._scan, self._kept = config, scan, kept
        self._specs = {name: to_dict(config)["data"][name] for name in (*SPLITS, "split")}
        self.errors: dict[str, list[DataError]] = {}
        self.notes: list[str] = []

    def open_training(
        self, classes: tuple[str, ...], run_classes: tuple[str, ...] = ()
    ) -> dict[str, Source]:
        """The training set, or the parts of `data.train`."""
        whole = self._read("train", classes)
        if not classes and set(whole.classes) < set(run_classes):
            whole = self._read("train", run_classes)
        fractions = self._config.data.split
        if not fractions:
            return {"train": self._as_kept("train", whole)}
        sources.check_has_files(whole)
        if self._kept.get(_SPECS, {}).get("split") == self._specs["split"]:
            names = [name for name, fraction in zip(SPLITS, fractions) if fraction > 0]
            parts = self._find_kept(whole, names)
        else:
            parts = split_images([image.path for image in whole.images], fractions)
        sets = {name: sources.subset(whole, rows, name) for name, rows in parts.items()}
        sizes = ", ".join(f"{len(source)} {name}" for name, source in sets.items())
        self.notes.append(f"split by names of files into {sizes}: {whole.summary()}")
        return sets

    def open(self, name: str, classes: tuple[str, ...]) -> Source:
        """A set that the config names."""
        return self._as_kept(name, self._read(name, classes))

    def describe(self, sets: Mapping[str, Source]) -> dict[str, Any]:
        """`Sets.kept`."""
        if not self._config.data.split and self._config.data.bad != "skip":
            return {}
        named = [name for name in sets if name != "train" and self._config.data[name]]
        names: dict[str, list[str]] = {}
        for group in [[name for name in sets if name not in named], *([name] for name in named)]:
            names |= _names({name: sets[name] for name in group})
        return {_SPECS: self._specs, _IMAGES: names}

    def _read(self, name: str, classes: tuple[str, ...]) -> Source:
        before = len(self._scan.errors)
        source = sources.make_source(self._config.data[name], self._config, classes, self._scan)
        self.errors[name] = self._scan.errors[before:]
        return source

    def _as_kept(self, name: str, source: Source) -> Source:
        """The images of a set that the run began with, where that was kept."""
        is_same = name == "train" or self._kept.get(_SPECS, {}).get(name) == self._specs[name]
        if name not in self._kept.get(_IMAGES, {}) or not is_same:
            return source
        return sources.subset(source, self._find_kept(source, [name])[name], "")

    def _find_kept(self, source: Source, names: Sequence[str]) -> dict[str, list[int]]:
        """Indices in a source of the kept images of each set."""
        kept = {name: self._kept[_IMAGES].get(name, []) for name in names}
        depth = max((text.count("/") + 1 for texts in kept.values() for text in texts), default=1)
        index = {"/".join(image.path.parts[-depth:]): i for i, image in enumerate(source.images)}
        missing = [text for texts in kept.values() for text in texts if text not in index]
        if missing:
            raise DataError(
                f"{_count(missing)} of this run cannot be read any more; restore what is missing, "
                "or start a new run in another --workdir"
            )
        known = {text for texts in kept.values() for text in texts}
        if others := sorted(index.keys() - known):
            self.notes.append(
                f"{_count(others)} left out, which this run did not begin with; a "
                "run in another --workdir takes them"
            )
        return {name: sorted(index[text] for text in texts) for name, texts in kept.items()}


def _names(sets: Mapping[str, Source]) -> dict[str, list[str]]:
    """Names of the images of sets, by which they differ from all others of these sets."""
    names = iter(image_names([image.path for each in sets.values() for image in each.images]))
    return {name: list(islice(names, len(source.images))) for name, source in sets.items()}


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} photographs ({join_truncated([*map(printable, names)], ', ')})"
