"""Attack one trained network of a run: poisonjax evaluate --victim=RUN --arm=pgd_at --attack=pgd --eps=.3"""

import dataclasses
import shlex
from types import SimpleNamespace

from poisonjax.cli.parser import Parser, complain, notice
from poisonjax.cli.stopping import RESUME, answering_ctrl_c


def parser(prog: str) -> Parser:
    """The flags."""
    flag = Parser(prog, __doc__.partition(":")[0])
    flag.text("victim", "workdir of a run, or gs://... of it", required=True)
    flag.text("arm", "which of its networks", required=True)
    flag.whole("seed", "of which seed", least=0, default=0)
    flag.text("experiment", "file or module of the experiment, if the types of the run come from there")
    flag.text("attack", "which attack, as pgd or autoattack", required=True)
    flag.number("eps", "radius of the ball, for an attack that has one, as .3 or 8/255")
    flag.require("eps", when=lambda values: values["attack"] is not None and _is_bounded(values["attack"]))
    flag.choice("norm", "in which norm; default: Linf, or the attack's", ("Linf", "L2"))
    flag.whole("images", "the first of the test split; default: 1,000, or all", least=1)
    flag.whole("batch", "how many at a time", least=1, default=100)
    flag.repeated("set", "attack.field=value")
    flag.text("data_dir", "folder of the tfds data sets; default: tfds's own")
    flag.text("out", "folder of the result; default: below the victim")
    flag.text("compilation_cache", "folder of compiled programs, or none; default: ~/.cache/poisonjax")
    return flag


def main(words: list[str], prog: str) -> int:
    """Attack a network; return the exit status: 0 done; 1 the machine failed; 2 bad input."""
    try:
        args = parser(prog).parse(words)
        notice(prog, "loading JAX ...")
        with answering_ctrl_c(prog):
            return _evaluate(args, shlex.join([*prog.split(), *words]))
    except ValueError as error:
        return complain(prog, error, 2)
    except OSError as error:
        return complain(prog, f"{error}; {RESUME}", 1)


def _evaluate(args: SimpleNamespace, command: str) -> int:
    from absl import logging

    from poisonjax.reports.attack import text
    from poisonjax.runs import attack as attacks
    from poisonjax.runs.trained import load_trained
    from poisonjax.runtime.compilation import enable_compilation_cache

    logging.set_verbosity(logging.WARNING)
    enable_compilation_cache(args.compilation_cache)
    attack, norm = chosen(args)
    trained = load_trained(args.victim, args.arm, args.seed, args.experiment, args.data_dir)
    words = [args.arm, f"seed{args.seed}", args.attack.lower(), norm]
    words += [] if args.eps is None else [f"{args.eps:g}"]
    out = args.out or f"{args.victim.rstrip('/')}/evaluations/{'_'.join(words)}"
    examples = attacks.first(trained.dataset, attack, args.images)
    print(text(attacks.run(trained, attack, examples, out, args.batch, command)))
    print(f"{out}/report.md")
    return 0


def chosen(args: SimpleNamespace):
    """The attack that the flags mean, and its norm. ValueError naming the flag and what is allowed."""
    from poisonjax.attacks import Attack
    from poisonjax.attacks.presets import BALLS, BOUNDED, MINIMAL
    from poisonjax.overrides import override
    from poisonjax.spelling import unknown

    name = args.attack.lower()
    if name in MINIMAL:
        attack, norm = _minimal(name, args.eps, args.norm, MINIMAL[name])
    elif name in BOUNDED:
        norm = args.norm or "Linf"
        attack = _bounded(BOUNDED[name], args.eps, BALLS[norm])
    else:
        raise ValueError(f"--attack: {unknown('attack', name, [*BOUNDED, *MINIMAL])}")
    asked = dataclasses.make_dataclass("evaluation", [("attack", Attack)], frozen=True)
    evaluation = asked(attack)
    for assignment in args.set:
        if not assignment.startswith(("attack.", "attack=")):
            raise ValueError(f"--set {assignment}: must have the form attack.field=value, as in attack.steps=100")
        try:
            evaluation = override(evaluation, assignment)
        except ValueError as error:
            raise ValueError(f"--set {assignment}: {error}") from None
    return evaluation.attack, norm


def _is_bounded(name: str) -> bool:
    from poisonjax.attacks.presets import BOUNDED

    return name.lower() in BOUNDED


def _minimal(name: str, eps: float | None, norm: str | None, by_norm: dict):
    if eps is not None:
        raise ValueError(f"--eps={eps:g}: {name} seeks the smallest change and takes no eps")
    norm = norm or next(iter(by_norm))
    if norm not in by_norm:
        raise ValueError(f"--norm={norm}: {name} is for {' or '.join(by_norm)} only")
    return by_norm[norm], norm


def _bounded(make, eps: float | None, ball):
    if not eps > 0:
        raise ValueError(f"--eps={eps:g}: must be above 0")
    try:
        return make(ball(eps))
    except ValueError as error:
        raise ValueError(f"--eps={eps:g}: {error}") from None
