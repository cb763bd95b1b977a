"""Run one experiment, from data to record, table and pictures: poisonjax run --experiment=mnist_clean_label"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace

from poisonjax.cli import command
from poisonjax.cli.parser import Parser, complain, notice, terminal_width
from poisonjax.cli.stopping import RESUME, STOPPED, STOPPED_AT_ONCE, answering_ctrl_c
from poisonjax.runs import experiments
from poisonjax.scales import SCALES

BEGAN = time.monotonic()


def parser(prog: str) -> Parser:
    """The flags."""
    flag = Parser(prog, __doc__.partition(":")[0])
    flag.text("experiment", "name (see --list), file or module of an experiment")
    flag.text("workdir", "folder, or gs://... of a bucket, of the run; default: runs/<experiment>/<scale>")
    flag.choice("scale", "auto is small on a CPU, else paper", ("auto", *reversed(SCALES)), "auto")
    flag.text(
        "data", "instead of the experiment's: a name, or folder:, npz:, parquet:, ember:PATH or tfds:NAME; docs/data.md"
    )
    flag.whole("image_size", "side in pixels of the square that images of a folder or of parquet become", least=1)
    flag.switch("skip_broken", "leave out what cannot be read of them, instead of refusing all")
    flag.whole("seeds", "number of seeds; more on the same workdir add to those done", least=1, default=1)
    flag.text("arms", "the arms to train, as in standard,pgd_at; others may be added to them later; default: all")
    flag.repeated("set", "section.field=value, as in poison.rate=.05")
    flag.repeated("sweep", "section.field=value,value; every combination is a run")
    flag.number("save_every", "seconds between checkpoints", 30.0)
    flag.switch("stream", "feed training from the record files, for data larger than the device")
    flag.switch("distributed", "one of several processes: Cloud TPU, SLURM, or JAX_* variables")
    flag.text(
        "shared_networks", "folder of networks trained on clean data, or none; default: ~/.cache/poisonjax/networks"
    )
    flag.switch("list", "list the experiments and exit")
    flag.switch("estimate", "estimate the time that the paper scale would take here, and exit")
    command.add_machine_flags(flag)
    return flag


def main(words: list[str], prog: str) -> int:
    """Run an experiment; return the exit status: 0 done; 1 machine or point failed; 2 bad input; 130 stopped, saved."""
    try:
        args = parser(prog).parse(words)
        if args.list:
            print("\n".join(f"{name:32s}{experiments.claim(name)}" for name in experiments.names()))
            return 0
        if args.experiment is None:
            raise ValueError(f"--experiment is required; allowed are {', '.join(experiments.names())}, or a file")
        experiments.check(args.experiment)
        notice(prog, "loading JAX ...")
        with answering_ctrl_c(prog):
            return _start(args, prog)
    except ValueError as error:
        return complain(prog, error, 2)


def _start(args: SimpleNamespace, prog: str) -> int:
    """The exit status of what the flags ask for. ValueError, before anything is computed, on bad input."""
    from absl import logging

    from poisonjax.training import Interrupted

    logging.set_verbosity(logging.WARNING)
    try:
        with contextlib.ExitStack() as stack:
            work = _prepared(args, stack, f"{prog}: {STOPPED_AT_ONCE}")
            try:
                return work()
            except ValueError as error:  # a defect, not bad input
                raise RuntimeError(str(error)) from error
    except Interrupted as stop:
        return complain(prog, f"{stop}; run the same command again to resume", STOPPED)
    except OSError as error:
        return complain(prog, f"{error}; {RESUME}", 1)


def _prepared(args: SimpleNamespace, stack: contextlib.ExitStack, last_words: str) -> Callable[[], int]:
    """The work that the flags ask for, in a workdir locked until the stack closes. ValueError on bad input."""
    from poisonjax.experiment import loader
    from poisonjax.reports.console import say
    from poisonjax.runs import job, runner, start, sweep
    from poisonjax.runtime import distributed
    from poisonjax.runtime.compilation import user_cache

    command.use_machine(args)
    if args.distributed:
        distributed.initialize()
    asked = [*_data(args), *args.set]
    if args.estimate:
        return functools.partial(_estimate, experiments.build(args.experiment, "paper"))
    scale, why = _scale(args.scale)
    whole = loader(args.data_dir)
    load = functools.partial(runner.load, whole=whole)
    plan = _chosen(experiments.configured(args.experiment, scale, asked, whole), args.arms)
    if args.sweep:
        if args.distributed:
            raise ValueError("--sweep runs in one process, on all its devices; leave out --distributed")
        points = sweep.grid(plan, sweep.axes(args.sweep, asked), load)
        config, home = sweep.identity(plan, scale, asked, points), sweep.home(plan, scale, points)
        work, dataset = functools.partial(sweep.run, points=points), points[0].dataset
        plans = [point.experiment for point in points]
    else:
        dataset, home = load(plan), f"runs/{plan.name}/{scale}"
        config, work, plans = job.identity(plan, scale, dataset), _single, [plan]
    shared = None if args.shared_networks == "none" else args.shared_networks or str(user_cache() / "networks")
    settings = start.Settings(
        args.workdir or home, args.seeds, args.data_dir, args.save_every, args.stream, shared, BEGAN, last_words
    )
    source = args.experiment if args.experiment.lower().removesuffix(".py") not in experiments.names() else ""
    opened = start.opened(plan, dataset, config, settings, scale, asked, source, args.arms or "")
    made = stack.enter_context(opened)
    say(f"{plan.name}: {scale} scale ({why})")
    for line in doubts(plans, experiments.configured(args.experiment, scale, [])):
        say(f"warning: {line}")
    return functools.partial(work, made)


def _chosen(plan, arms: str | None):
    """The experiment, with those of its arms that --arms names. ValueError naming the flag."""
    if arms is None:
        return plan
    try:
        return plan.only([name.strip() for name in arms.split(",")])
    except ValueError as error:
        raise ValueError(f"--arms={arms}: {error}") from None


def _data(args: SimpleNamespace) -> list[str]:
    """The flags about data as --set takes them. ValueError if they would have no effect."""
    given = [f"image_size={args.image_size}"] if args.image_size is not None else []
    given += ["skip_broken=true"] if args.skip_broken else []
    if given and any(each.startswith(("data.reading", "data=")) for each in args.set):
        raise ValueError("--image_size and --skip_broken would be lost; put them into the Reading(...) of --set")
    if args.estimate and (args.data or given):
        raise ValueError(
            "--estimate is for the data of the experiment; leave out --data, --image_size and --skip_broken"
        )
    named = [f"data.name={args.data}"] if args.data is not None else []
    return named + ([f"data.reading=Reading({', '.join(given)})"] if given else [])


def doubts(plans: Iterable, usual) -> list[str]:
    """The warnings of experiments that flags have brought about: settings of an experiment's own file are meant."""
    meant = usual.warnings()
    return list(dict.fromkeys(line for plan in plans for line in plan.warnings() if line not in meant))


def _scale(flag: str) -> tuple[str, str]:
    """The scale that the flag means on this machine, and why."""
    import jax

    if flag != "auto":
        return flag, "as asked"
    backend = jax.default_backend()
    return "small" if backend == "cpu" else "paper", f"auto, on {backend}"


def _single(job) -> int:
    """One run; the exit status."""
    from poisonjax.reports import text
    from poisonjax.reports.console import say
    from poisonjax.runs import runner, start
    from poisonjax.runtime import distributed

    record = start.finished(job)
    if record is None:
        record = runner.run(job)
    else:
        say(f"{job.home}: already done")
    if distributed.is_primary():
        print(f"\n{text.results(record, terminal_width())}\n\n{record['finding']}\n{job.home}/report.md")
    return 0


def _estimate(paper) -> int:
    """The time that one seed of the paper scale would take here; the exit status."""
    from poisonjax.runs import estimate

    print(f"{paper.name}: the paper scale would take about {estimate.spell(estimate.seconds_for(paper))} per seed here")
    return 0
