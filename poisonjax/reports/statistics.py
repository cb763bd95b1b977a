"""Counts of several seeds as a metric with its uncertainty."""

import math

import numpy as np

from poisonjax.evaluation.metrics import Count


def wilson(hits: int, of: int) -> list[float] | None:
    """95% interval of a proportion (Wilson 1927); None if `of` is 0."""
    if not of:
        return None
    from scipy import stats  # slow to import

    return [float(bound) for bound in stats.binomtest(hits, of).proportion_ci(0.95, method="wilson")]


def summary(counts: list[Count]) -> dict:
    """One metric over seeds, as a record has it; fractions in [0, 1], None where there is nothing to divide by.

    std: over seeds, with n - 1; None for one seed. ci95: Wilson's for one seed, Student's t over seeds otherwise.
    """
    values = [count.value for count in counts if count.denominator]
    intervals = [wilson(count.numerator, count.denominator) for count in counts]
    return {
        "mean": float(np.mean(values)) if values else None,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "ci95": _student(values) if len(values) > 1 else next(filter(None, intervals), None),
        "per_seed": [count.value if count.denominator else None for count in counts],
        "wilson95": intervals,
        "numerator": [count.numerator for count in counts],
        "denominator": [count.denominator for count in counts],
        "per_class": {
            "numerator": [count.hits.tolist() for count in counts],
            "denominator": [count.of.tolist() for count in counts],
        },
    }


def spread(values: list[float | None]) -> dict:
    """Mean, std with n - 1 (None for one seed) and per_seed of numbers of several seeds; None does not count."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "per_seed": values,
    }


def _student(values: list[float]) -> list[float]:
    """95% interval of the mean of n >= 2 values in [0, 1]."""
    from scipy import stats  # slow to import

    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    middle = np.mean(values)
    return [float(max(0.0, middle - half)), float(min(1.0, middle + half))]
