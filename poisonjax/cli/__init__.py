"""The command line: `poisonjax run`, `evaluate`, `data` and `report`."""

import importlib
import sys

from poisonjax.cli.parser import asks_for_help, complain
from poisonjax.spelling import unknown

COMMANDS = {
    "run": "train and judge the networks of an experiment, or resume where it stopped",
    "evaluate": "attack a network that a run has trained",
    "data": "prepare a data set",
    "report": "write the results of many runs as a site or as tables",
}


def usage(prog: str) -> str:
    """The commands, one per line."""
    lines = [f"  {name:10s}{purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join([f"usage: {prog} COMMAND [flags]", "", *lines, "", f"{prog} COMMAND --help lists its flags."])


def main(words: list[str] | None = None, prog: str = "poisonjax") -> int:
    """Run a command and return its exit status: 0 done; 1 the machine failed; 2 bad input; 130 stopped."""
    command, *rest = (sys.argv[1:] if words is None else words) or [""]
    if asks_for_help([command]):
        print(usage(prog))
        return 0
    if not command:
        print(usage(prog), file=sys.stderr)
        return 2
    if command not in COMMANDS:
        return complain(prog, unknown("command", command, COMMANDS), 2)
    return importlib.import_module(f"poisonjax.cli.{command}").main(rest, f"{prog} {command}")
