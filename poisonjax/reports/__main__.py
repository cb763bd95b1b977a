"""Command line: the tables of README.md and results/README.md, or a site, from records alone."""

import pathlib
import sys

from poisonjax.cli.parser import Parser, complain
from poisonjax.reports.site import folder
from poisonjax.reports.summary import pages
from poisonjax.runtime.workdir import write_atomic

NAME = "python -m poisonjax.reports"


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description=__doc__.partition(": ")[2])
    commands = parser.add_subparsers(dest="command", title="commands", metavar="{tables,site}")
    tables = "renew the tables of README.md and results/README.md in this checkout"
    commands.add_parser("tables", help=tables, description=tables)
    help = "write a static site of all records below a folder"
    site = commands.add_parser("site", help=help, description=help)
    site.add_argument("--records", type=pathlib.Path, required=True, help="folder with records, at any depth")
    site.add_argument("--out", type=pathlib.Path, required=True, help="folder of the site; replaced if it is one")
    return parser


def _tables() -> None:
    for path, text in pages(pathlib.Path(__file__).parents[2]).items():
        write_atomic(path, text)


def main(words: list[str], prog: str = NAME) -> int:
    """Run a command; return the exit status: 0 done, 1 the machine failed, 2 invalid input."""
    parser = _parser(prog)
    try:
        asked = parser.parse(words)
        if asked.command is None:
            parser.print_usage(sys.stderr)
            return 2
        if asked.command == "site":
            folder.write(asked.records, asked.out)
            print(asked.out / "index.html")
        else:
            _tables()
    except ValueError as error:
        return complain(prog, error, 2)
    except OSError as error:
        return complain(prog, error, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
