"""The command line: python -m poisonjax run --experiment=mnist_clean_label"""

from poisonjax.cli import enter, main

if __name__ == "__main__":
    enter(main, "python -m poisonjax")
