"""Places that data sets are read from, written `kind:place`: an open family."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from poisonjax.data.dataset import Dataset
from poisonjax.data.sources import SOURCES, DataError
from poisonjax.spelling import meant


@dataclass(frozen=True)
class Reading:
    """How rows of one's own are read; see docs/data.md for the rules.

    image_size: side in pixels of the square that every image becomes; None keeps images that are all of one size, and
    makes others 64 x 64. channels: 1 or 3; None for 1 if all images are stored as gray, else 3. test_share: of each
    class, in (0, 1), where there is no test split. split_seed: which rows those are. skip_broken: leave out the rows
    that cannot be read, instead of refusing all. ValueError for an impossible value.
    """

    image_size: int | None = None
    channels: int | None = None
    test_share: float = 0.2
    split_seed: int = 0
    skip_broken: bool = False

    def __post_init__(self) -> None:
        if self.image_size is not None and not 1 <= self.image_size <= 4096:
            raise ValueError(f"image_size must lie between 1 and 4096 pixels, got {self.image_size}")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}")
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share must lie in (0, 1), got {self.test_share}")


class Origin(abc.ABC):
    """A kind of place that data sets are read from. A new one has `kind` and `load`, and is found once imported.

    kind: the word before the colon. place: what comes after it, as messages call it.
    """

    kind: ClassVar[str]
    place: ClassVar[str] = "PATH"

    @abc.abstractmethod
    def load(self, place: str, data_dir: str | None, reading: Reading) -> Dataset:
        """The data set of that place, named `kind:place`. DataError, one line, if it cannot be read."""


def find(source: str) -> tuple[Origin, str]:
    """The origin and the place that `kind:place` names. DataError, naming what is allowed, for anything else."""
    kind, colon, place = source.partition(":")
    known = {member.kind: member for member in _members(Origin)}
    if kind in known and place and source.isprintable():
        return known[kind](), place
    allowed = [*SOURCES, *(f"{name}:{member.place}" for name, member in sorted(known.items()))]
    if not source.isprintable():
        raise DataError(f"{source!r} has a character that cannot be printed; rename it")
    near = meant(kind, known) if colon else ""
    raise DataError(f"unknown data set {source!r}: allowed are {', '.join(allowed)}{near}")


def _members(family: type) -> Iterator[type]:
    for member in family.__subclasses__():
        if hasattr(member, "kind"):
            yield member
        yield from _members(member)
