"""Look for poison in training data: poisonjax audit data folder:/my/images --out=audit"""

import functools
from types import SimpleNamespace

from poisonjax.cli import command
from poisonjax.cli.parser import Parser, dispatch

SUSPICIOUS = 3  # the exit status of an audit that found something


def main(words: list[str], prog: str) -> int:
    """Run a command; return the exit status: 0 nothing found, 3 suspicious, or as `command.run`."""
    data = functools.partial(command.run, parser=parser, work=_audit)
    return dispatch(prog, words, {"data": ("look for poisoned rows in training data", data)})


def parser(prog: str) -> Parser:
    """The flags of `audit data`."""
    flag = Parser(prog, "Look for poisoned rows in training data; exit status 3 if there are any.", ("source",))
    flag.text("out", "folder of the report; audited before, it resumes", required=True)
    flag.text("budgets", "radii of the attacks that networks are trained under, as .1,.2,.3; default: by the colours")
    command.add_data_flags(flag)
    command.add_machine_flags(flag)
    return flag


def _audit(args: SimpleNamespace) -> int:
    from poisonjax.runs import audit

    budgets = args.budgets and command.fractions("budgets", args.budgets)
    said, _ = audit.run(command.own_data(args), args.out, args.data_dir, budgets)
    print(f"\n{said.sentence}\n{args.out}/audit.html")
    return SUSPICIOUS if said.suspicious else 0
