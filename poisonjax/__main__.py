"""The command line: python -m poisonjax run --experiment=mnist_clean_label"""

import sys

from poisonjax.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m poisonjax"))
