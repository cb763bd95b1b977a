"""Try a defence on a run that is done: poisonjax defend --victim=RUN --defence='SpectralSignatures(.1)'"""

from types import SimpleNamespace

from poisonjax.cli import command
from poisonjax.cli.parser import Parser, terminal_width


def parser(prog: str) -> Parser:
    """The flags."""
    flag = Parser(prog, __doc__.partition(":")[0])
    flag.text("victim", "workdir of a run, or gs://... of it; the defended network becomes an arm of it", required=True)
    flag.text("defence", "as in Python, such as ActivationClustering() or STRIP(overlays=50)", required=True)
    flag.text("arm", "which of its trainings is defended", "standard")
    flag.text("name", "of the new arm; default: that of the defence")
    flag.text("experiment", "file or module of the experiment, if the types of the run come from there")
    command.add_machine_flags(flag)
    return flag


def main(words: list[str], prog: str) -> int:
    """Defend a network; return the exit status, as `command.run`."""
    return command.run(words, prog, parser, _defend)


def _defend(args: SimpleNamespace) -> int:
    from poisonjax.defences import Defence
    from poisonjax.overrides import parse
    from poisonjax.reports import text
    from poisonjax.runs import experiments
    from poisonjax.runs.defend import defend

    experiments.import_types()
    if args.experiment is not None:
        experiments.load(args.experiment)
    defence = parse(args.defence, Defence, "--defence")
    record = defend(args.victim, defence, args.arm, args.name, args.data_dir, args.experiment)
    print(f"\n{text.results(record, terminal_width())}\n\n{record['finding']}\n{args.victim}/report.md")
    return 0
