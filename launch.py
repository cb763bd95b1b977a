"""One experiment, from data to record, table and pictures: python launch.py --experiment=mnist_clean_label

The same as `poisonjax run`, for a checkout that is not installed; poisonjax/cli/run.py has the flags.
"""

from poisonjax.cli import enter
from poisonjax.cli.run import main

if __name__ == "__main__":
    enter(main, "launch.py")
