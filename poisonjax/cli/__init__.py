"""The command line: `poisonjax run`, `evaluate`, `data` and `report`."""

import functools
import importlib
import sys

from poisonjax.cli.parser import dispatch

COMMANDS = {
    "run": "train and judge the networks of an experiment, or resume where it stopped",
    "evaluate": "attack a network that a run has trained",
    "data": "prepare a data set",
    "report": "write the results of many runs as a site or as tables",
}


def main(words: list[str] | None = None, prog: str = "poisonjax") -> int:
    """Run a command and return its exit status: 0 done; 1 the machine failed; 2 bad input; 130 stopped."""
    commands = {name: (purpose, functools.partial(_run, name)) for name, purpose in COMMANDS.items()}
    return dispatch(prog, sys.argv[1:] if words is None else words, commands)


def _run(name: str, words: list[str], prog: str) -> int:
    """Importing a command takes time, so only the one that runs is."""
    return importlib.import_module(f"poisonjax.cli.{name}").main(words, prog)
