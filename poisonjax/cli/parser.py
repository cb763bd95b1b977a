"""absl flags as all commands have them: one set per command, and an error is one line and exit status 2."""

import math
import shutil
import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from absl import flags

from poisonjax.spelling import unknown


class Parser:
    """The flags and positional words of one command; those of other commands are apart.

    description: one line, for --help. words: names of the positional words, all of them required.
    """

    def __init__(self, prog: str, description: str, words: tuple[str, ...] = ()):
        self._prog, self._description, self._words = prog, description, words
        self._flags: flags.FlagValues = flags.FlagValues()
        self._required: list[tuple[str, Callable[[dict], bool]]] = []
        self.switch("help", "show this help and exit")

    def text(self, name: str, help: str, default: str | None = None, required: bool = False) -> None:
        """A flag of any text."""
        self._define(_Text(), name, help, default, required)

    def choice(self, name: str, help: str, names: Iterable[str], default: str | None = None) -> None:
        """A flag of one of these names, whatever its capitals."""
        self._define(_Choice(tuple(names)), name, f"{help}: {', '.join(names)}", default)

    def whole(self, name: str, help: str, least: int, default: int | None = None) -> None:
        """A flag of a whole number, at least this one."""
        self._define(_Whole(least), name, help, default)

    def number(self, name: str, help: str, default: float | None = None) -> None:
        """A flag of a number of at least 0, as .1 or 8/255."""
        self._define(_Number(), name, help, default)

    def repeated(self, name: str, help: str) -> None:
        """A flag of any text that may be given several times."""
        flags.DEFINE_multi_string(name, [], f"{help}; repeatable", flag_values=self._flags)

    def switch(self, name: str, help: str) -> None:
        """A flag without a value: --name, or --noname."""
        flags.DEFINE_bool(name, False, help, flag_values=self._flags)

    def _define(self, parser: flags.ArgumentParser, name: str, help: str, default: Any, required: bool = False) -> None:
        flags.DEFINE(parser, name, default, help, flag_values=self._flags)
        if required:
            self.require(name)

    def require(self, name: str, when: Callable[[dict], bool] = lambda values: True) -> None:
        """Refuse to do without a flag, when the values of the others are such."""
        self._required.append((name, when))

    def parse(self, given: list[str]) -> SimpleNamespace:
        """The values of all flags and words. ValueError naming the flag, the value and what is allowed.

        SystemExit with status 0 after --help.
        """
        try:
            rest = self._flags([self._prog, *given])[1:]
        except flags.UnrecognizedFlagError as error:
            raise ValueError(unknown("flag", f"--{error.flagname}", [f"--{name}" for name in self._flags])) from None
        except flags.Error as error:
            raise ValueError(_plain(error)) from None
        values = self._flags.flag_values_dict()
        if values["help"]:
            print(self.usage())
            raise SystemExit(0)
        if len(rest) > len(self._words):
            raise ValueError(f"unexpected argument {rest[len(self._words)]!r}; flags start with --")
        missing = [f"--{name}" for name, when in self._required if values[name] is None and when(values)]
        missing += self._words[len(rest) :]
        if missing:
            raise ValueError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} required")
        return SimpleNamespace(**values, **dict(zip(self._words, rest, strict=True)))

    def usage(self) -> str:
        """The help of the command."""
        words = " ".join([self._prog, *map(str.upper, self._words), "[flags]"])
        _, _, help = self._flags.get_help().strip().partition("\n")  # absl begins with the name of this module
        return f"usage: {words}\n\n{self._description}\n\n{help}"


def _plain(error: flags.Error) -> str:
    """absl's message without its preamble: --seeds=two: must be a whole number ..."""
    return str(error).removeprefix("flag ").replace("Missing value for flag ", "a value is missing after ")


class _Text(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return argument


class _Choice(flags.ArgumentParser):
    def __init__(self, names: tuple[str, ...]):
        self._names = names

    def parse(self, argument: str) -> str:
        for name in self._names:
            if name.lower() == argument.lower():
                return name
        raise ValueError(unknown("value", argument, self._names))


class _Whole(flags.ArgumentParser):
    def __init__(self, least: int):
        self._least = least

    def parse(self, argument: str | int) -> int:
        if not str(argument).lstrip("-").isdecimal() or int(argument) < self._least:
            raise ValueError(f"must be a whole number of at least {self._least}")
        return int(argument)


class _Number(flags.ArgumentParser):
    def parse(self, argument: str | float) -> float:
        top, slash, bottom = str(argument).partition("/")
        try:
            value = float(top) / float(bottom) if slash else float(top)
        except (ValueError, ZeroDivisionError):
            value = math.nan
        if not (0 <= value < math.inf):
            raise ValueError("must be a number of at least 0, such as 0.1 or 8/255")
        return value


def asks_for_help(words: list[str]) -> bool:
    """True if the words begin with a request for help."""
    return words[:1] in (["-h"], ["--help"], ["help"])


def complain(prog: str, error: object, status: int) -> int:
    """Print one line on standard error, and the further lines of an error that has `details`; return the status."""
    lines = [f"{prog}: {error}", *getattr(error, "details", ())]
    print("\n  ".join(" ".join(line.split()) for line in lines), file=sys.stderr)
    return status


def notice(prog: str, line: str) -> None:
    """One line for a person who waits at a terminal; logs and pipes are spared it."""
    if sys.stderr.isatty():
        print(f"{prog}: {line}", file=sys.stderr, flush=True)


def terminal_width() -> int | None:
    """Columns of the terminal on standard output; None for a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def dispatch(prog: str, words: list[str], commands: dict[str, tuple[str, Callable[[list[str], str], int]]]) -> int:
    """Run the command that the first word names; without one, print the usage and return 2.

    commands: {name: (its purpose, in a line, and the function of the other words and its name)}.
    """
    command, *rest = words or [""]
    lines = [f"  {name:10s}{purpose}" for name, (purpose, _) in commands.items()]
    usage = "\n".join([f"usage: {prog} COMMAND [flags]", "", *lines, "", f"{prog} COMMAND --help lists its flags."])
    if asks_for_help([command]) or not command:
        print(usage, file=sys.stdout if command else sys.stderr)
        return 0 if command else 2
    if command not in commands:
        return complain(prog, unknown("command", command, commands), 2)
    return commands[command][1](rest, f"{prog} {command}")
