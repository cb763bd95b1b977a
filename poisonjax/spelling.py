"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


def unknown(what: str, word: str, names: Iterable[str]) -> str:
    """A complaint about a word that is none of the names, with the nearest of them, or all."""
    names = list(names)
    near = difflib.get_close_matches(word.lower(), names, 1)
    return f"unknown {what} {word!r}; " + (f"did you mean {near[0]}?" if near else f"allowed are {', '.join(names)}")
