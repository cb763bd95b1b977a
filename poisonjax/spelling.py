"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


def unknown(what: str, word: str, names: Iterable[str]) -> str:
    """A complaint about a word that is none of the names, with the nearest of them, or all."""
    names = list(names)
    return f"unknown {what} {word!r}{meant(word, names) or '; allowed are ' + ', '.join(names)}"


def meant(word: str, names: Iterable[str]) -> str:
    """The end of a complaint about a misspelt word: the nearest of the names as a question; "" if none is near."""
    spelt = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), spelt, 1)
    return f"; did you mean {spelt[near[0]]}?" if near else ""
