"""Try a defence on a run that is done: poisonjax defend --victim=RUN --defence='SpectralSignatures(.1)'"""

from types import SimpleNamespace

from poisonjax.cli.parser import Parser, complain, notice, terminal_width
from poisonjax.cli.stopping import RESUME, STOPPED, answering_ctrl_c


def parser(prog: str) -> Parser:
    """The flags."""
    flag = Parser(prog, __doc__.partition(":")[0])
    flag.text("victim", "workdir of a run, or gs://... of it; the defended network becomes an arm of it", required=True)
    flag.text("defence", "as in Python, such as ActivationClustering() or STRIP(overlays=50)", required=True)
    flag.text("arm", "which of its trainings is defended", "standard")
    flag.text("name", "of the new arm; default: that of the defence")
    flag.text("experiment", "file or module of the experiment, if the types of the run come from there")
    flag.text("data_dir", "folder of the tfds data sets; default: tfds's own")
    flag.whole("cpu_devices", "number of virtual CPU devices; one per core is fastest", least=1, default=1)
    flag.text("compilation_cache", "folder of compiled programs, or none; default: ~/.cache/poisonjax")
    return flag


def main(words: list[str], prog: str) -> int:
    """Defend a network; return the exit status: 0 done; 1 the machine failed; 2 bad input; 130 stopped, all saved."""
    try:
        args = parser(prog).parse(words)
        notice(prog, "loading JAX ...")
        with answering_ctrl_c(prog):
            return _defend(args, prog)
    except ValueError as error:
        return complain(prog, error, 2)
    except OSError as error:
        return complain(prog, f"{error}; {RESUME}", 1)


def _defend(args: SimpleNamespace, prog: str) -> int:
    from absl import logging

    from poisonjax.defences import Defence
    from poisonjax.overrides import parse
    from poisonjax.reports import text
    from poisonjax.runs import experiments
    from poisonjax.runs.defend import defend
    from poisonjax.runtime import distributed
    from poisonjax.runtime.compilation import enable_compilation_cache
    from poisonjax.training import Interrupted

    logging.set_verbosity(logging.WARNING)
    enable_compilation_cache(args.compilation_cache)
    if args.cpu_devices > 1:
        distributed.split_cpu(args.cpu_devices)
    experiments.import_types()
    if args.experiment is not None:
        experiments.load(args.experiment)
    defence = parse(args.defence, Defence, "--defence")
    try:
        record = defend(args.victim, defence, args.arm, args.name, args.data_dir, args.experiment)
    except Interrupted as stop:
        return complain(prog, f"{stop}; run the same command again to resume", STOPPED)
    print(f"\n{text.results(record, terminal_width())}\n\n{record['finding']}\n{args.victim}/report.md")
    return 0
