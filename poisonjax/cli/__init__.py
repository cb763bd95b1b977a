"""The command line: `poisonjax run`, `evaluate`, `defend`, `audit`, `simulate`, `data` and `report`."""

import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from poisonjax.cli.parser import complain, dispatch
from poisonjax.cli.stopping import STOPPED, STOPPED_AT_ONCE

COMMANDS = {
    "run": "train and judge the networks of an experiment, or resume where it stopped",
    "evaluate": "attack a network that a run has trained",
    "defend": "try a defence on a run that is done",
    "simulate": "try attacks on data of one's own",
    "audit": "look for poison in training data of one's own",
    "data": "prepare a data set",
    "report": "write the results of many runs as a site or as tables",
}


def main(words: list[str] | None = None, prog: str = "poisonjax") -> int:
    """Run a command and return its exit status: 0 done; 1 the machine failed; 2 bad input; 130 stopped, all saved."""
    words = sys.argv[1:] if words is None else words
    if words and words[0].startswith("--") and words[0] != "--help":
        if words == ["--list"]:
            return _run("run", words, prog)
        return complain(prog, f"a command must come before {words[0]}, as in {prog} run {words[0]}", 2)
    commands = {name: (purpose, functools.partial(_run, name)) for name, purpose in COMMANDS.items()}
    return dispatch(prog, words, commands)


def enter(command: Callable[[list[str], str], int] = main, prog: str = "poisonjax") -> NoReturn:
    """The way in from a shell: run a command on the words that were typed, and exit with its status.

    Ctrl-C exits without Python's own clean-up, which waits for native threads that still compile, and may crash there.
    """
    try:
        status = command(sys.argv[1:], prog)
        sys.stdout.flush()
    except KeyboardInterrupt:
        os._exit(complain(prog, STOPPED_AT_ONCE, STOPPED))
    except BrokenPipeError:  # of head, which has read enough
        os._exit(1)
    sys.exit(status)


def _run(name: str, words: list[str], prog: str) -> int:
    """Importing a command takes time, so only the one that runs is."""
    return importlib.import_module(f"poisonjax.cli.{name}").main(words, prog)
