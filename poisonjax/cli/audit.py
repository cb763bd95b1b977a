"""Look for poison in data, or a backdoor in a network: poisonjax audit data folder:/my/images --out=audit"""

import functools
from types import SimpleNamespace

from poisonjax.cli import command
from poisonjax.cli.parser import Parser, dispatch

SUSPICIOUS = 3  # the exit status of an audit that found something


def main(words: list[str], prog: str) -> int:
    """Run a command; return the exit status: 0 nothing found, 3 suspicious, or as `command.run`."""
    data = functools.partial(command.run, parser=data_parser, work=_audit_data)
    model = functools.partial(command.run, parser=model_parser, work=_audit_model)
    commands = {
        "data": ("look for poisoned rows in training data", data),
        "model": ("look for a backdoor in a trained network", model),
    }
    return dispatch(prog, words, commands)


def data_parser(prog: str) -> Parser:
    """The flags of `audit data`."""
    flag = Parser(prog, "Look for poisoned rows in training data; exit status 3 if there are any.", ("source",))
    flag.text("out", "folder of the report; audited before, it resumes", required=True)
    flag.text("budgets", "radii of the attacks that networks are trained under, as .1,.2,.3; default: by the colours")
    flag.text(
        "power", "shares, as .003,.01: if nothing is found, plant poison in so many rows and count what would have been"
    )
    command.add_data_flags(flag)
    command.add_machine_flags(flag)
    return flag


def _audit_data(args: SimpleNamespace) -> int:
    from poisonjax.reports.audit.findings import power
    from poisonjax.runs import audit

    budgets = args.budgets and command.fractions("budgets", args.budgets)
    rates = command.fractions("power", args.power) if args.power else ()
    report = audit.run(command.own_data(args, args.source), args.out, args.data_dir, budgets, rates)
    said = [report.verdict.sentence, *([power(report.planted)] if report.planted else [])]
    print("\n" + "\n".join([*said, f"{args.out}/audit.html"]))
    return SUSPICIOUS if report.verdict.suspicious else 0


def model_parser(prog: str) -> Parser:
    """The flags of `audit model`."""
    purpose = "Look for a backdoor in a trained network; exit status 3 if a class looks like its target."
    flag = Parser(prog, purpose, ("network",))
    flag.text("out", "folder of the report", required=True)
    flag.text("data", "whose test split it is tried on, as folder:PATH; of a run: the data of the run")
    flag.text("arm", "which network, where NETWORK is the workdir of a run; else it is file.py:name or module:name")
    flag.whole("seed", "of which seed of the run", least=0, default=0)
    flag.text("experiment", "file or module of the experiment, if the types of the run come from there")
    flag.number("eps", "Linf radius of AutoAttack; default: no attack")
    flag.text("calibration", "CSV of audits of networks known to be backdoored or clean; default: no probability")
    command.add_data_flags(flag)
    command.add_machine_flags(flag)
    flag.require("data", when=lambda values: values["arm"] is None)
    return flag


def _audit_model(args: SimpleNamespace) -> int:
    from poisonjax.reports.audit import calibration
    from poisonjax.runs import audit_model

    known = None if args.calibration is None else calibration.read(args.calibration)
    victim, dataset = _of_run(args) if args.arm is not None else _of_code(args)
    name = args.network if args.arm is None else f"{args.arm} of {args.network}"
    report = audit_model.run(victim, dataset, args.out, name, args.eps, known)
    probability = [] if known is None else [f"Probability of a backdoor: {report.probability:.2f}."]
    print("\n".join(["", report.verdict, *probability, f"{args.out}/model_audit.html"]))
    return SUSPICIOUS if report.suspicious else 0


def _of_run(args: SimpleNamespace):
    """A network of a run, and the data to try it on."""
    from poisonjax.runs.trained import load_trained

    trained = load_trained(args.network, args.arm, args.seed, args.experiment, args.data_dir)
    return trained.victim, trained.dataset if args.data is None else _loaded(args)


def _of_code(args: SimpleNamespace):
    """A function images -> logits of somebody's own, a torch.nn.Module or a MAITE model, and the data to try it on."""
    from poisonjax.adapters import adapted
    from poisonjax.evaluation.victim import function_victim
    from poisonjax.runs.experiments import load_object

    return function_victim(adapted(load_object(args.network))), _loaded(args)


def _loaded(args: SimpleNamespace):
    return command.own_data(args, args.data).load(args.data_dir)
