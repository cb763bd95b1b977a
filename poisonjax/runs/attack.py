"""One trained network of a run under one attack: python -m poisonjax.runs.attack --victim=runs/NAME/small --arm=pgd_at
--attack=autoattack --eps=.3"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import shlex
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from absl import flags, logging

from poisonjax.attacks import (
    APGD,
    FAB,
    L2,
    LBFGS,
    PGD,
    Attack,
    AutoAttack,
    Boundary,
    CarliniWagner,
    CarliniWagnerLinf,
    HopSkipJump,
    Linf,
    Square,
    TargetedAPGD,
    bim,
    fgsm,
    mi_fgsm,
)
from poisonjax.attacks.balls import Ball
from poisonjax.data import Dataset
from poisonjax.evaluation import robustness
from poisonjax.evaluation.attack_run import Stage
from poisonjax.evaluation.robustness import evaluate
from poisonjax.evaluation.victim import network_victim
from poisonjax.experiment import Arm, Experiment
from poisonjax.keys import stream_key
from poisonjax.overrides import from_json, override, to_json
from poisonjax.reports import statistics
from poisonjax.reports.console import Bar, say
from poisonjax.reports.record import environment
from poisonjax.reports.table import percent, rows
from poisonjax.runs import runner
from poisonjax.runtime import bucket, distributed
from poisonjax.runtime.checkpoint import Checkpoints
from poisonjax.runtime.compilation import enable_compilation_cache
from poisonjax.runtime.workdir import (
    WorkdirError,
    cached_json,
    load_arrays,
    save_arrays,
    stored_config,
    write_atomic,
)
from poisonjax.training import TrainState, restored
from poisonjax.types import Examples, take

__all__ = ["evaluate"]

NAME = "python -m poisonjax.runs.attack"
FORMAT = 1  # of evaluation.json
BALLS = {"Linf": Linf, "L2": L2}

# With the published settings, or the field's usual ones where the paper has none for other sizes of the ball.
BOUNDED: dict[str, Callable[[Ball], Attack]] = {
    "fgsm": fgsm,
    "bim": lambda ball: bim(ball, ball.eps / 10, 20),
    "pgd": lambda ball: PGD(ball, ball.eps / 16, 40, keep_best=True),
    "mi_fgsm": mi_fgsm,
    "apgd": APGD,
    "apgd_t": TargetedAPGD,
    "autoattack": AutoAttack,
    "square": Square,
}
MINIMAL: dict[str, dict[str, Attack]] = {  # by norm, the first of which is the default
    "fab": {"Linf": FAB(), "L2": FAB("L2")},
    "carlini_wagner": {"L2": CarliniWagner(), "Linf": CarliniWagnerLinf()},
    "lbfgs": {"L2": LBFGS()},
    "boundary": {"L2": Boundary()},
    "hop_skip_jump": {"L2": HopSkipJump(), "Linf": HopSkipJump("Linf")},
}

FLAGS = flags.FlagValues()  # its own, since launch.py has some of the same names
flags.DEFINE_string("victim", None, "The workdir of a run of launch.py, or gs://... of it.", flag_values=FLAGS)
flags.DEFINE_string("arm", None, "Which of its networks.", flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Of which seed.", lower_bound=0, flag_values=FLAGS)
flags.DEFINE_enum("attack", None, [*BOUNDED, *MINIMAL], "Which attack.", flag_values=FLAGS)
flags.DEFINE_float("eps", None, "How far an attack with a ball may go.", flag_values=FLAGS)
flags.DEFINE_enum("norm", None, [*BALLS], "In which norm. Default: Linf, or the attack's.", flag_values=FLAGS)
flags.DEFINE_integer("images", None, "The first of the test split; 1,000, or all.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_integer("batch", 100, "How many at a time.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "attack.field=value; repeatable.", flag_values=FLAGS)
flags.DEFINE_string("data_dir", None, "Folder of the tfds data sets. Default: tfds's own.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "Where the result goes. Default: below the victim.", flag_values=FLAGS)
flags.DEFINE_string(
    "compilation_cache", None, "Folder of compiled programs, or none. Default: ~/.cache/poisonjax.", flag_values=FLAGS
)
flags.DEFINE_bool("help", False, "Say this and stop.", flag_values=FLAGS)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What --set changes."""

    attack: Attack


class Trained(NamedTuple):
    """A network that a run left. run: what the run's workdir stays with."""

    run: dict
    experiment: Experiment
    arm: Arm
    state: TrainState
    dataset: Dataset


def chosen() -> Attack:
    """The attack that the flags mean. ValueError naming the flag and what is allowed."""
    attack = _plain()
    for assignment in FLAGS.set:
        try:
            attack = override(Asked(attack), assignment).attack
        except ValueError as error:
            raise ValueError(f"--set {assignment}: {str(error).replace('the experiment', 'an evaluation')}") from None
    return attack


def _plain() -> Attack:
    name, eps = _given("attack"), FLAGS.eps
    if name in MINIMAL:
        if eps is not None:
            raise ValueError(f"--eps={eps}: {name} seeks the smallest change and takes no eps")
        norm = FLAGS.norm or next(iter(MINIMAL[name]))
        if norm not in MINIMAL[name]:
            raise ValueError(f"--norm={norm}: {name} is for {' or '.join(MINIMAL[name])} only")
        return MINIMAL[name][norm]
    if not _given("eps") > 0:
        raise ValueError(f"--eps={eps}: must be above 0")
    try:
        return BOUNDED[name](BALLS[FLAGS.norm or "Linf"](eps))
    except ValueError as error:
        raise ValueError(f"--eps={eps}: {error}") from None


def _given(flag: str):
    """The value of a flag that has no default. ValueError without one."""
    if FLAGS[flag].value is None:
        raise ValueError(f"--{flag} is required")
    return FLAGS[flag].value


def trained() -> Trained:
    """The network that the flags name, and its data. ValueError naming the flag and what is allowed."""
    with _of("victim"), bucket.local(_given("victim")) as folder:
        return _trained(folder)


def _trained(folder: pathlib.Path) -> Trained:
    run = _config(folder)
    try:
        plan = from_json({name: value for name, value in run.items() if name != "scale"}, Experiment)
    except ValueError as error:
        raise ValueError(f"--victim={FLAGS.victim}: its config.json is {error}") from None
    arm, dataset = _arm(plan), runner.load(plan, FLAGS.data_dir)
    seeds = sorted(int(path.name[4:]) for path in folder.glob("seed[0-9]*"))
    if FLAGS.seed not in seeds:
        raise ValueError(f"--seed={FLAGS.seed}: the run has {', '.join(map(str, seeds)) or 'none'}")
    store = Checkpoints(folder / f"seed{FLAGS.seed}" / arm.name / "checkpoints", warn=say, primary=False)
    settings, rows, image = plan.training_of(arm), len(dataset.train.label), dataset.train.image[0]
    try:
        state = restored(plan.model_of(arm), arm.objective, settings, rows, image, store)
    except ValueError as error:
        raise ValueError(f"--arm={arm.name}, seed {FLAGS.seed}: {error}") from None
    return Trained(run, plan, arm, state, dataset)


def _config(folder: pathlib.Path) -> dict:
    if not (folder / "config.json").is_file():
        raise ValueError(f"--victim={FLAGS.victim}: has no config.json, so it is no workdir of a run")
    return stored_config(folder / "config.json")


def _arm(plan: Experiment) -> Arm:
    name, arms = _given("arm"), {arm.name: arm for arm in plan.arms}
    if name not in arms:
        raise ValueError(f"--arm={name}: the run has {', '.join(arms)}")
    return arms[name]


def shown(dataset: Dataset, attack: Attack) -> Examples:
    """The test images that the flags mean. ValueError if there are fewer, or if the ball is larger than they are."""
    there, shape = len(dataset.test.label), dataset.test.image.shape[1:]
    if FLAGS.images is not None and FLAGS.images > there:
        raise ValueError(f"--images={FLAGS.images}: the test split has {there}")
    ball = getattr(attack, "ball", None)
    if ball is not None and ball.eps > (largest := ball.max_radius(shape)):
        raise ValueError(f"--eps={ball.eps:g}: must be at most {largest:g} for images of shape {shape} in [0, 1]")
    return take(dataset.test, slice(FLAGS.images or 1000))


@contextlib.contextmanager
def _of(flag: str) -> Iterator[None]:
    """Errors of a folder name the flag that it came from."""
    try:
        yield
    except WorkdirError as error:
        raise ValueError(str(error).replace("--workdir", f"--{flag}")) from None


def home() -> str:
    """Where the result goes."""
    if FLAGS.out is not None:
        return FLAGS.out
    norm = FLAGS.norm or next(iter(MINIMAL.get(FLAGS.attack, BALLS)))
    words = [FLAGS.arm, f"seed{FLAGS.seed}", FLAGS.attack, norm]
    words += [] if FLAGS.eps is None else [f"{FLAGS.eps:g}"]
    return f"{FLAGS.victim.rstrip('/')}/evaluations/{'_'.join(words)}"


def _kept(folder: pathlib.Path, name: str, make: Callable[[], Stage]) -> Stage:
    """A stage of an attack, made only if the folder does not have it."""
    path = folder / f"{name}.npz"
    found = _recalled(path)
    say(f"{name}{' is done already' if found is not None else ''}")
    if found is None:
        found = make()
        save_arrays(path, found)
    return found


def _recalled(path: pathlib.Path) -> Stage | None:
    try:
        return load_arrays(path, Stage) if path.exists() else None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        say(f"{path} is damaged ({type(error).__name__}): made again")
        return None


@contextlib.contextmanager
def _bar(stage: str, images: int) -> Iterator[Callable[[int], None]]:
    with Bar(stage or FLAGS.attack) as bar:
        bar.begin(images, 0)
        yield bar.advance


def run(victim: Trained, attack: Attack, examples: Examples) -> dict:
    """Attacks the images, or goes on where it was stopped; writes evaluation.json and report.md; the record."""
    network = distributed.replicate(network_victim(victim.experiment.model_of(victim.arm), victim.state))
    outputs = robustness.checked_outputs(network, examples, attack, FLAGS.batch)
    about = {"arm": victim.arm.name, "seed": FLAGS.seed, "attack": to_json(attack), "images": len(examples.label)}
    identity = about | {"dataset": victim.dataset.sha256, "run": victim.run}
    key = stream_key(FLAGS.seed, "evaluation")
    with _of("out"), bucket.claimed(home(), identity, warn=say) as out:
        keep = functools.partial(_kept, out)

        def measured() -> dict:
            result = robustness.measured(network, examples, attack, key, FLAGS.batch, outputs, keep, _bar)
            return result.to_json()

        found = cached_json(out / "result.json", measured, warn=say)
        record = {"format": FORMAT, "command": _command(), **about, "dataset": _described(victim.dataset), **found}
        record = record | {"run": victim.run, "environment": environment()}
        write_atomic(out / "report.md", markdown(record))
        write_atomic(out / "evaluation.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record


def _described(dataset: Dataset) -> dict:
    return {"name": dataset.name, "version": dataset.version, "sha256": dataset.sha256}


def _command() -> str:
    """What to type for the same."""
    given = [word for flag in FLAGS if FLAGS[flag].present for word in FLAGS[flag].serialize().splitlines()]
    return shlex.join([*NAME.split(), *given])


def table(record: dict) -> str:
    """What the attack did, as a Markdown table."""
    body = [["clean accuracy", _share(record["clean"])], ["robust accuracy", _share(record["robust"])]]
    body += [[f"after {name}", f"{percent(left)} %"] for name, left in record["stages"].items()]
    body += [[f"median {norm}", _plain_number(record[f"median_{norm.lower()}"])] for norm in BALLS]
    body += [[f"{name} an image, at most", str(record[name])] for name in ("gradients", "queries")]
    return rows(["", "measured"], [*body, ["images/s", _plain_number(record["images_per_second"])]])


def _share(count: list[int]) -> str:
    low, high = map(percent, statistics.wilson(*count))
    return f"{percent(count[0] / count[1])} % [{low}, {high}] ({count[0]}/{count[1]})"


def _plain_number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def markdown(record: dict) -> str:
    """The whole page."""
    sections = [
        f"# {record['arm']}, seed {record['seed']}, under {record['attack']['type']}",
        f"{record['run']['name']} ({record['run']['scale']} scale), the first {record['images']} test images of "
        f"{record['dataset']['name']} {record['dataset']['version']}.",
        table(record),
        "Distances are medians over the images that the attack turned; intervals are Wilson's, of 95 %.",
        "## Audit",
        "\n".join(f"- {line}" for line in record["audit"]) or "No sign of gradient masking.",
        "## Setting",
        f"`{record['command']}`",
        "```json\n" + json.dumps({"attack": record["attack"], **record["environment"]}, indent=1) + "\n```",
    ]
    return "\n\n".join(sections) + "\n"


def main(argv: list[str]) -> int:
    """The exit status: 0 done; 1 the machine failed; 2 bad input; 130 stopped."""
    logging.set_verbosity(logging.WARNING)
    try:
        rest = FLAGS(argv)[1:]
        if FLAGS.help:
            print(f"{__doc__}\n\n{FLAGS.get_help()}")
            return 0
        if rest:
            raise ValueError(f"{rest[0]!r} is no flag; flags start with --")
        enable_compilation_cache(FLAGS.compilation_cache)
        attack, victim = chosen(), trained()
        record = run(victim, attack, shown(victim.dataset, attack))
    except (flags.Error, ValueError) as error:
        return _complain(error, 2)
    except OSError as error:
        return _complain(f"{error}; the same command goes on from there", 1)
    except KeyboardInterrupt:
        return _complain("stopped; stages that are done are kept, and the same command goes on from there", 130)
    warnings = [f"warning: {line}" for line in record["audit"]]
    print("\n".join([table(record), *warnings, f"{home()}/report.md"]))
    return 0


def _complain(error: object, status: int) -> int:
    """One line on standard error; the status."""
    print(f"{NAME}: {' '.join(str(error).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv))
