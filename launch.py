"""One experiment, from data to record, table and pictures: python launch.py --experiment=mnist_clean_label"""

import contextlib
import functools
import importlib
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

from absl import app, flags, logging

STARTED = time.monotonic()
FLAGS = flags.FLAGS
flags.DEFINE_string("experiment", None, "A file of experiments/, without .py; --list names them.")
flags.DEFINE_string("workdir", None, "Folder, or gs://... of a bucket, of the run. Default: runs/<experiment>/<scale>.")
flags.DEFINE_enum("scale", "auto", ["auto", "smoke", "small", "paper"], "auto: paper on an accelerator, else small.")
flags.DEFINE_string("data_dir", None, "Folder of the tfds data sets. Default: tfds's own.")
flags.DEFINE_integer("seeds", 1, "How many seeds; more on the same workdir adds to those done.", lower_bound=1)
flags.DEFINE_multi_string("set", [], "section.field=value, as in poison.rate=.05; repeatable.")
flags.DEFINE_multi_string("sweep", [], "section.field=value,value; repeatable; every combination is a run.")
flags.DEFINE_float("save_every", 30.0, "Seconds between checkpoints.", lower_bound=0.0)
flags.DEFINE_bool("stream", False, "Feed training from the record files, for data larger than device memory.")
flags.DEFINE_integer("cpu_devices", 1, "Devices that a CPU is split into; one a core is fastest.", lower_bound=1)
flags.DEFINE_bool("distributed", False, "One of several processes of a job: Cloud TPU, SLURM, or JAX_* variables.")
flags.DEFINE_string("compilation_cache", None, "Folder of compiled programs, or none. Default: ~/.cache/poisonjax.")
flags.DEFINE_bool("list", False, "Name the experiments, with what they claim, and stop.")

EXPERIMENTS = pathlib.Path(__file__).parent / "experiments"


def names() -> list[str]:
    """The experiments there are."""
    return sorted(path.stem for path in EXPERIMENTS.glob("[!_]*.py"))


def module(name: str | None):
    """The file of an experiment. ValueError if there is none."""
    if name not in names():
        given = "--experiment is required" if name is None else f"--experiment={name} does not exist"
        raise ValueError(f"{given}; there are {', '.join(names())}")
    return importlib.import_module(f"experiments.{name}")


def configured(name: str | None, scale: str, assignments: list[str]):
    """The experiment at a scale, with overrides. ValueError naming the flag, the value and what is allowed."""
    from poisonjax.overrides import override

    experiment = module(name).experiment(scale)
    for assignment in assignments:
        try:
            experiment = override(experiment, assignment)
        except ValueError as error:
            raise ValueError(f"--set {assignment}: {error}") from None
    return experiment


def chosen_scale(flag: str) -> str:
    """The scale that a flag means on this machine."""
    import jax

    if flag != "auto":
        return flag
    return "small" if jax.default_backend() == "cpu" else "paper"


def announce(paper, scale: str) -> None:
    """Says the scale and how long the paper's would take here."""
    import jax

    from poisonjax.reports.console import say
    from poisonjax.runs import estimate

    length = estimate.spell(estimate.seconds_for(paper))
    why = f"auto, on {jax.default_backend()}" if FLAGS.scale == "auto" else "as asked"
    say(f"{paper.name}: {scale} scale ({why}); the paper scale would take about {length} a seed here")


def prepared(stack: contextlib.ExitStack) -> Callable[[], int]:
    """What the flags ask for, in a workdir locked as long as the stack lives. ValueError on bad input."""
    from poisonjax.runs import job, runner, sweep
    from poisonjax.runtime import distributed
    from poisonjax.runtime.compilation import enable_compilation_cache

    enable_compilation_cache(FLAGS.compilation_cache)
    if FLAGS.cpu_devices > 1:
        distributed.split_cpu(FLAGS.cpu_devices)
    if FLAGS.distributed:
        distributed.initialize()
    scale = chosen_scale(FLAGS.scale)
    plan = configured(FLAGS.experiment, scale, FLAGS.set)
    load = functools.partial(runner.load, data_dir=FLAGS.data_dir)
    if not FLAGS.sweep:
        config, default = job.identity(plan, scale), f"runs/{plan.name}/{scale}"
        return functools.partial(single, owned(stack, config, default, scale, plan, load(plan)))
    if FLAGS.distributed:
        raise ValueError("--sweep runs in one process, on all its devices; --distributed is allowed without it")
    points = sweep.grid(plan, sweep.axes(FLAGS.sweep, FLAGS.set), load)
    config, default = sweep.identity(plan, scale, FLAGS.set, points), sweep.home(plan, scale, points)
    return functools.partial(sweep.run, owned(stack, config, default, scale, plan, points[0].dataset), points)


def owned(stack: contextlib.ExitStack, config: dict, default: str, scale: str, experiment, dataset):
    """The run in its workdir, which is config's and locked as long as the stack lives. ValueError if it is not."""
    from poisonjax.data import stream
    from poisonjax.reports.console import say
    from poisonjax.runs import job
    from poisonjax.runtime.workdir import Interrupt

    workdir = own_workdir(stack, config, default)
    announce(module(FLAGS.experiment).experiment("paper"), scale)
    interrupt = stack.enter_context(Interrupt())
    reader = stream.rows(experiment.data.name, "train", FLAGS.data_dir) if FLAGS.stream else None
    return job.Run(
        experiment=experiment,
        dataset=dataset,
        workdir=workdir,
        home=FLAGS.workdir or default,
        scale=scale,
        changed=tuple(FLAGS.set),
        seeds=FLAGS.seeds,
        save_every=FLAGS.save_every,
        stop_requested=lambda: interrupt.requested is not None,
        reader=reader,
        advanced=functools.cache(lambda: say(f"first training steps done after {time.monotonic() - STARTED:.1f} s")),
    )


def own_workdir(stack: contextlib.ExitStack, config: dict, default: str) -> pathlib.Path:
    """The locked workdir; of several processes the primary one has it, and each other a folder soon forgotten."""
    from poisonjax.reports.console import say
    from poisonjax.runtime import bucket, distributed

    held = bucket.claimed(FLAGS.workdir or default, config, FLAGS.save_every, say)
    folder = distributed.from_primary(lambda: stack.enter_context(held))
    if distributed.is_primary():
        return folder
    return pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))


def single(job) -> int:
    """One run; the exit status."""
    from poisonjax.runs import runner
    from poisonjax.runtime import distributed

    record = runner.run(job)
    if distributed.is_primary():
        print(f"{record['finding']}\n{job.home}/report.md")
    return 0


def launch() -> int:
    """Runs what the flags say; the exit status."""
    from poisonjax.training import Interrupted

    try:
        with contextlib.ExitStack() as stack:
            try:
                work = prepared(stack)
            except ValueError as error:
                return complain(error, 2)
            return work()
    except Interrupted as stop:
        return complain(f"{stop}; the same command goes on from there", 130)
    except OSError as error:
        return complain(f"{error}; nothing that was saved is lost, the same command goes on from there", 1)


def complain(error: object, status: int) -> int:
    """One line on standard error; the status."""
    print(f"launch.py: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def main(argv: list[str]) -> int:
    """The exit status: 0 done; 1 the machine, or a point, failed; 2 bad input; 130 stopped on request, saved."""
    logging.set_verbosity(logging.WARNING)
    if argv[1:]:
        return complain(f"{argv[1]!r} is no flag; flags start with --", 2)
    if not FLAGS.list:
        try:
            return launch()
        except KeyboardInterrupt:
            return complain("stopped at once; what was saved is not lost, the same command goes on from there", 130)
    for name in names():
        print(f"{name:32s}{module(name).__doc__.splitlines()[0]}")
    return 0


def parse(argv: list[str]) -> list[str]:
    """absl's parser, with one line and exit status 2 for a bad flag."""
    try:
        return FLAGS(argv)
    except flags.Error as error:
        sys.exit(complain(error, 2))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
