"""Checks of the settings of attacks and balls, when they are built. Each raises a ValueError of one line."""

import numbers
from typing import Any


def check_numbers(settings: Any, *fields: str) -> None:
    """Each of these fields must be a number."""
    for field in fields:
        value = getattr(settings, field)
        if not isinstance(value, numbers.Real) and getattr(value, "shape", None) != ():
            raise ValueError(f"{field} must be a number, got {value!r}")


def check_counts(settings: Any, *fields: str) -> None:
    """Each of these fields must be a whole number of at least 1."""
    check_numbers(settings, *fields)
    for field in fields:
        value = getattr(settings, field)
        if value < 1:
            raise ValueError(f"{field} must be at least 1, got {value}")
        if value % 1:
            raise ValueError(f"{field} must be a whole number, got {value}")


def check_positive(settings: Any, *fields: str) -> None:
    """Each of these fields must be a number above 0."""
    check_numbers(settings, *fields)
    for field in fields:
        if not getattr(settings, field) > 0:
            raise ValueError(f"{field} must be above 0, got {getattr(settings, field)}")


def check_nonnegative(settings: Any, *fields: str) -> None:
    """Each of these fields must be a number of at least 0."""
    check_numbers(settings, *fields)
    for field in fields:
        if not getattr(settings, field) >= 0:
            raise ValueError(f"{field} must not be negative, got {getattr(settings, field)}")


def check_instance(settings: Any, field: str, *kinds: type, example: str) -> None:
    """The field must be of one of these classes."""
    value = getattr(settings, field)
    if not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{field} must be {names}, as {example}, got {value!r}")
