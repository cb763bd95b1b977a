"""Look for poison in training data: poisonjax audit data folder:/my/images --out=audit"""

from types import SimpleNamespace

from poisonjax.cli.parser import Parser, complain, dispatch, notice
from poisonjax.cli.stopping import RESUME, STOPPED, answering_ctrl_c

SUSPICIOUS = 3  # the exit status of an audit that found something


def main(words: list[str], prog: str) -> int:
    """Run a command; return the exit status: 0 nothing found, 3 suspicious, 1 the machine failed, 2 bad input."""
    commands = {"data": ("look for poisoned rows in training data", _data)}
    return dispatch(prog, words, commands)


def parser(prog: str) -> Parser:
    """The flags of `audit data`."""
    flag = Parser(prog, "Look for poisoned rows in training data; exit status 3 if there are any.", ("source",))
    flag.text("out", "folder of the report; audited before, it resumes", required=True)
    flag.text("budgets", "radii of the attacks that networks are trained under, as .1,.2,.3; default: by the colours")
    flag.whole("image_size", "side of the square that images of one's own become", least=1)
    flag.whole("channels", "1 for grey, 3 for colour; default: as the images are", least=1)
    flag.switch("skip_broken", "leave out files that cannot be read")
    flag.text("data_dir", "folder of the tfds data sets; default: tfds's own")
    flag.whole("cpu_devices", "number of virtual CPU devices; one per core is fastest", least=1, default=1)
    flag.text("compilation_cache", "folder of compiled programs, or none; default: ~/.cache/poisonjax")
    return flag


def _data(words: list[str], prog: str) -> int:
    try:
        args = parser(prog).parse(words)
        notice(prog, "loading JAX ...")
        with answering_ctrl_c(prog):
            return _audit(args, prog)
    except ValueError as error:
        return complain(prog, error, 2)
    except OSError as error:
        return complain(prog, f"{error}; {RESUME}", 1)


def _audit(args: SimpleNamespace, prog: str) -> int:
    from absl import logging

    from poisonjax.runs import audit
    from poisonjax.runtime import distributed
    from poisonjax.runtime.compilation import enable_compilation_cache
    from poisonjax.training import Interrupted

    logging.set_verbosity(logging.WARNING)
    enable_compilation_cache(args.compilation_cache)
    if args.cpu_devices > 1:
        distributed.split_cpu(args.cpu_devices)
    try:
        said, _ = audit.run(_chosen(args), args.out, args.data_dir, _budgets(args.budgets))
    except Interrupted as stop:
        return complain(prog, f"{stop}; run the same command again to resume", STOPPED)
    print(f"\n{said.sentence}\n{args.out}/audit.html")
    return SUSPICIOUS if said.suspicious else 0


def _chosen(args: SimpleNamespace):
    """The data that the flags mean."""
    from poisonjax.data import Reading
    from poisonjax.data.sources import SOURCES
    from poisonjax.experiment import Data

    reading = Reading(image_size=args.image_size, channels=args.channels, skip_broken=args.skip_broken)
    if args.source in SOURCES and reading == Reading():
        return Data(args.source)
    return Data(args.source, reading=reading)


def _budgets(text: str | None) -> list[float] | None:
    """The radii that --budgets means. ValueError for anything else than numbers above 0."""
    if text is None:
        return None
    try:
        budgets = [float(part) for part in text.split(",")]
    except ValueError:
        budgets = []
    if not budgets or not all(0 < eps <= 1 for eps in budgets):
        raise ValueError(f"--budgets={text}: must be numbers in (0, 1], as in .1,.2,.3")
    return budgets
