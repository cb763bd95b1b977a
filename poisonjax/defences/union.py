"""The union of several filters: what one of them drops is dropped."""

import dataclasses

import numpy as np

from poisonjax.defences.base import Context, Defence, Selection
from poisonjax.evaluation.victim import Victim
from poisonjax.types import Examples, take


@dataclasses.dataclass(frozen=True)
class Union(Defence):
    """Drop the rows that any of several filters drops.

    filters: defences that choose rows, each of which sees all of them; rows with other labels are not for this one.
    ValueError without a filter.
    """

    filters: tuple[Defence, ...]

    def __post_init__(self):
        if not self.filters:
            raise ValueError("filters must hold at least one defence, such as Reveal(...)")

    @property
    def needs_clean(self) -> bool:
        """True if one of the filters needs clean data."""
        return any(each.needs_clean for each in self.filters)

    def select(self, context: Context) -> Selection:
        """The rows that all filters keep; a row is as suspicious as its highest rank by any of them, in (0, 1]."""
        train = context.train
        found = [_scored(each.select(_named(context, number)), train) for number, each in enumerate(self.filters)]
        dropped, ranks = (np.max(each, 0) for each in zip(*found, strict=True))
        return Selection(take(train, ~dropped), ranks)


def _scored(selected: Examples | Selection, train: Examples) -> tuple[np.ndarray, np.ndarray]:
    """The rows that a filter drops [n] bool, and the rank of each row by its suspicion, [n] in (0, 1]."""
    from scipy.stats import rankdata  # slow to import

    kept, suspicion = selected if isinstance(selected, Selection) else (selected, None)
    dropped = ~np.isin(train.index, kept.index)
    return dropped, rankdata(dropped if suspicion is None else suspicion) / len(dropped)


def _named(context: Context, number: int) -> Context:
    """The context of one of several filters, whose networks are kept under names of their own."""

    def fit(name: str, *given, **settings) -> Victim:
        return context.fit(f"filter{number}_{name}", *given, **settings)

    return context._replace(fit=fit)
