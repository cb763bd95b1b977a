"""Progress of a run: lines, a progress bar with accuracy, images/s and time left, TensorBoard curves."""

import pathlib
import sys
from collections.abc import Callable

from tqdm import tqdm

from poisonjax.runtime import distributed

# Numbers beside a bar, with names short enough for a narrow terminal: of these columns, and of fewer.
WIDE = 110
WIDELY = {"train_loss": "loss", "train_accuracy": "train", "clean_accuracy": "clean", "attack_success_rate": "ASR"}
NARROWLY = {name: WIDELY[name] for name in ("clean_accuracy", "attack_success_rate")}
BAR = "{desc} {percentage:3.0f}%|{bar}| "  # then the most important first, since tqdm cuts off what is too long
STILL = "compiling, first step ..."


def say(line: str) -> None:
    """Print a line on standard error, above any progress bar; of several processes, the primary one does."""
    if distributed.is_primary():
        tqdm.write(line, file=sys.stderr)


class Bar:
    """A progress bar in images, shown on a terminal only; it stands still until the first images are done.

    left: the time left of the whole job, in words; "" while it is not known, and the bar shows its own. keep: leave its
    last state on the screen.
    """

    def __init__(self, name: str, left: Callable[[], str] = str, keep: bool = False):
        self._name, self._left, self._keep = name, left, keep
        self._bar: tqdm | None = None
        self._moves, self._row = False, {}

    def begin(self, images: int, done: int) -> None:
        """Start a bar of so many images, of which some are done already."""
        if done == images:
            self._bar.close()
            return
        self._bar.total, self._bar.n = images, done
        self._bar.refresh()

    def advance(self, images: int) -> None:
        """Count so many more images as done."""
        if self._moves:
            self._bar.bar_format = f"{BAR}{{rate_fmt}}{self._numbers()}{self._ending() or ' <{remaining}'}"
            self._bar.update(images)
            return
        self._moves, done, total = True, self._bar.n + images, self._bar.total
        self._bar.close()  # the new one has a new clock: its speed is without the compilation
        self._bar = self._made(total, done, f"{BAR}{self._ending().removeprefix(', ')}", self._keep)

    def epoch(self, row: dict) -> None:
        """Show some numbers of an epoch beside the bar, from the next images on."""
        self._row = row

    def _made(self, images: int, done: int, form: str, keep: bool) -> tqdm:
        settings = {"unit": "img", "unit_scale": True, "dynamic_ncols": True, "disable": None, "leave": keep}
        return tqdm(total=images, initial=done, desc=self._name, bar_format=form, **settings)

    def _ending(self) -> str:
        left = self._left().replace("about ", "").replace("over ", ">")
        return f", {left}" if left else ""

    def _numbers(self) -> str:
        names = WIDELY if (self._bar.format_dict["ncols"] or 0) >= WIDE else NARROWLY
        return "".join(f" {names[name]} {_spelled(name, self._row[name])}" for name in names if name in self._row)

    def __enter__(self):
        self._bar = self._made(1, 0, f"{BAR}{STILL}", False)
        return self

    def __exit__(self, *error):
        if self._moves:
            self._bar.bar_format = f"{BAR}{{rate_fmt}}{self._numbers()}, {{elapsed}}"
        self._bar.close()


def _spelled(name: str, value: float) -> str:
    return f"{value:.3f}" if name == "train_loss" else f"{value:.0%}"


class TrainingBar(Bar):
    """A progress bar that also writes the numbers of each epoch as TensorBoard scalars into a folder.

    trained: told the share of the training that is done, in the beginning and after each call of its program; advanced
    is called after the latter only.
    """

    def __init__(
        self,
        name: str,
        folder: pathlib.Path,
        stop_requested: Callable[[], bool],
        advanced: Callable[[], None] = lambda: None,
        trained: Callable[[float], None] = lambda share: None,
        left: Callable[[], str] = str,
    ):
        from tensorboardX import SummaryWriter  # slow to import, since it imports torch where that is installed

        super().__init__(name, left, keep=True)
        self.stop_requested, self._advanced, self._trained = stop_requested, advanced, trained
        self._images = self._done = 0
        self._writer = SummaryWriter(str(folder))

    def begin(self, images: int, done: int) -> None:
        """Start a bar of so many images, of which some are done already."""
        super().begin(images, done)
        self._images, self._done = images, done
        self._trained(done / images)

    def advance(self, images: int) -> None:
        """Count so many more images as done."""
        self._done += images
        self._trained(self._done / self._images)
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
