"""Parsing and complaints that all commands share: an error is one line and exit status 2."""

import argparse
import sys
from collections.abc import Callable
from fractions import Fraction

from poisonjax.spelling import unknown

RESUME = "progress saved so far is intact; run the same command again to resume"


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ValueErrors of one line."""

    def __init__(self, *args, **options):
        super().__init__(*args, allow_abbrev=False, exit_on_error=False, **options)

    def parse(self, words: list[str]) -> argparse.Namespace:
        """The values of all flags. ValueError naming the flag, the value and what is allowed."""
        try:
            args, rest = self.parse_known_args(words)
        except argparse.ArgumentError as error:
            raise ValueError(f"{error.argument_name or ''}: {error.message}".lstrip(": ")) from None
        if rest and rest[0].startswith("-"):
            raise ValueError(unknown("flag", rest[0].partition("=")[0], self._option_string_actions))
        if rest:
            raise ValueError(f"unexpected argument {rest[0]!r}; flags start with --")
        return args

    def error(self, message: str):
        """ValueError, where argparse would exit."""
        raise ValueError(message)


def asks_for_help(words: list[str]) -> bool:
    """True if the words begin with a request for help."""
    return words[:1] in (["-h"], ["--help"], ["help"])


def complain(prog: str, error: object, status: int) -> int:
    """Print one line on standard error; return the status."""
    print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def notice(prog: str, line: str) -> None:
    """One line for a person who waits at a terminal; logs and pipes are spared it."""
    if sys.stderr.isatty():
        print(f"{prog}: {line}", file=sys.stderr, flush=True)


def one_of(*names: str) -> Callable[[str], str]:
    """The type of a flag that takes one of these names, in capitals or not."""

    def choose(text: str) -> str:
        for name in names:
            if name.lower() == text.lower():
                return name
        raise argparse.ArgumentTypeError(unknown("value", text, names))

    return choose


def whole(least: int) -> Callable[[str], int]:
    """The type of a flag that takes a whole number, at least this one."""

    def read(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
        return int(text)

    return read


def number(text: str) -> float:
    """The type of a flag that takes a number of at least 0, as .1 or 8/255."""
    try:
        value = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        value = -1.0
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, such as 0.1 or 8/255, got {text!r}")
    return value
