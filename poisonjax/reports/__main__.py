"""python -m poisonjax.reports: renews the tables of README.md and results/README.md from the records in results/."""

import pathlib
import sys

from poisonjax.reports.summary import pages
from poisonjax.workdir import write_atomic


def main() -> int:
    """The exit status."""
    for path, text in pages(pathlib.Path(__file__).parents[2]).items():
        write_atomic(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
