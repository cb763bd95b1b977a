"""Progress of a run: lines, a progress bar with images/s and time left, TensorBoard curves."""

import pathlib
import sys
from collections.abc import Callable

from tensorboardX import SummaryWriter
from tqdm import tqdm

from poisonjax.runtime import distributed

# Numbers beside a bar, with names short enough for a narrow terminal.
SHORT = {"train_loss": "loss", "train_accuracy": "train", "clean_accuracy": "clean", "attack_success_rate": "ASR"}


def say(line: str) -> None:
    """Print a line on standard error, above any progress bar; of several processes, the primary one does."""
    if distributed.is_primary():
        tqdm.write(line, file=sys.stderr)


class Bar:
    """A progress bar in images, shown on a terminal only."""

    def __init__(self, name: str):
        self._name = name
        self._bar: tqdm | None = None

    def begin(self, images: int, done: int) -> None:
        """Start a bar of so many images, of which some are done already."""
        self._bar = tqdm(total=images, initial=done, desc=self._name, unit="img", unit_scale=True, disable=None)

    def advance(self, images: int) -> None:
        """Count so many more images as done."""
        self._bar.update(images)

    def epoch(self, row: dict) -> None:
        """Show some numbers of an epoch beside the bar."""
        shown = {short: f"{row[name]:.3f}" for name, short in SHORT.items() if name in row}
        self._bar.set_postfix(shown, refresh=False)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._bar is not None:
            self._bar.close()


class TrainingBar(Bar):
    """A progress bar that also writes the numbers of each epoch as TensorBoard scalars into a folder."""

    def __init__(
        self,
        name: str,
        folder: pathlib.Path,
        stop_requested: Callable[[], bool],
        advanced: Callable[[], None] = lambda: None,
    ):
        super().__init__(name)
        self.stop_requested, self._advanced = stop_requested, advanced
        self._writer = SummaryWriter(str(folder))

    def advance(self, images: int) -> None:
        """Count so many more images as done."""
        super().advance(images)
        self._advanced()

    def epoch(self, row: dict) -> None:
        """Show the numbers of an epoch, and write all of them as TensorBoard scalars."""
        super().epoch(row)
        for name in row.keys() - {"step"}:
            self._writer.add_scalar(name, row[name], row["step"])

    def __exit__(self, *error):
        super().__exit__(*error)
        self._writer.close()
