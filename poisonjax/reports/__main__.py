"""The same as `poisonjax report`: python -m poisonjax.reports site --records results --out site"""

import sys

from poisonjax.cli import report


def main(words: list[str]) -> int:
    """Run a command; return the exit status: 0 done; 1 the machine failed; 2 bad input."""
    return report.main(words, "python -m poisonjax.reports")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
