"""Flags, machine and exit status of the commands on data and runs of one's own."""

from collections.abc import Callable
from types import SimpleNamespace

from poisonjax.cli.parser import Parser, complain, notice
from poisonjax.cli.stopping import RESUME, STOPPED, answering_ctrl_c


def add_machine_flags(flag: Parser) -> None:
    """Flags on which no result depends."""
    flag.text("data_dir", "folder of the tfds data sets; default: tfds's own")
    flag.whole("cpu_devices", "number of virtual CPU devices; one per core is fastest", least=1, default=1)
    flag.text("compilation_cache", "folder of compiled programs, or none; default: ~/.cache/poisonjax")


def add_data_flags(flag: Parser) -> None:
    """Flags of data of one's own."""
    flag.whole("image_size", "side of the square that images of one's own become", least=1)
    flag.whole("channels", "1 for grey, 3 for colour; default: as the images are", least=1)
    flag.switch("skip_broken", "leave out files that cannot be read")


def run(words: list[str], prog: str, parser: Callable[[str], Parser], work: Callable[[SimpleNamespace], int]) -> int:
    """Parse the words and work; return the exit status: the work's; 1 the machine failed; 2 bad input; 130 stopped.

    work: may import JAX, takes the flags.
    """
    try:
        args = parser(prog).parse(words)
        notice(prog, "loading JAX ...")
        with answering_ctrl_c(prog):
            return _worked(args, prog, work)
    except ValueError as error:
        return complain(prog, error, 2)
    except OSError as error:
        return complain(prog, f"{error}; {RESUME}", 1)


def use_machine(args: SimpleNamespace) -> None:
    """Compiled programs and devices as the flags of `add_machine_flags` ask for them."""
    from poisonjax.runtime import distributed
    from poisonjax.runtime.compilation import enable_compilation_cache

    enable_compilation_cache(args.compilation_cache)
    if args.cpu_devices > 1:
        distributed.split_cpu(args.cpu_devices)


def _worked(args: SimpleNamespace, prog: str, work: Callable[[SimpleNamespace], int]) -> int:
    from absl import logging

    from poisonjax.training import Interrupted

    logging.set_verbosity(logging.WARNING)
    use_machine(args)
    try:
        return work(args)
    except Interrupted as stop:
        return complain(prog, f"{stop}; run the same command again to resume", STOPPED)


def own_data(args: SimpleNamespace, source: str):
    """The data that a source and the flags of `add_data_flags` mean."""
    from poisonjax.data import Reading
    from poisonjax.data.sources import SOURCES
    from poisonjax.experiment import Data

    reading = Reading(image_size=args.image_size, channels=args.channels, skip_broken=args.skip_broken)
    if source in SOURCES and reading == Reading():
        return Data(source)
    return Data(source, reading=reading)


def fractions(flag: str, text: str) -> list[float]:
    """Numbers in (0, 1] with commas between them. ValueError, naming the flag, for anything else."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < each <= 1 for each in found):
        raise ValueError(f"--{flag}={text}: must be numbers in (0, 1], as in .1,.2,.3")
    return found
