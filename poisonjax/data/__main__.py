"""The same as `poisonjax data`: python -m poisonjax.data prepare mnist"""

import sys

from poisonjax.cli import data


def main(words: list[str]) -> int:
    """The exit status: 0 prepared, now or before; 2 bad input, with one line on stderr."""
    return data.main(words, "python -m poisonjax.data")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
