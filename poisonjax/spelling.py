"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


def unknown(what: str, word: str, names: Iterable[str]) -> str:
    """A complaint about a word that is none of the names, with the nearest of them, or all."""
    spelt = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), spelt, 1)
    advice = f"did you mean {spelt[near[0]]}?" if near else f"allowed are {', '.join(spelt.values())}"
    return f"unknown {what} {word!r}; {advice}"
