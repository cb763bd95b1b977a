"""An experiment from data to report; reads like the method section of a paper."""

import functools
import json
from collections.abc import Callable

import jax
from matplotlib.figure import Figure

from poisonjax.data import Dataset
from poisonjax.evaluation import metrics
from poisonjax.evaluation.metrics import Count
from poisonjax.experiment import Arm, Data, Experiment
from poisonjax.poisons import poisoned
from poisonjax.reports import figures, record, table
from poisonjax.reports.console import say
from poisonjax.runs.crafting import craft
from poisonjax.runs.fitting import fitted
from poisonjax.runs.job import (
    ATTACKER,
    PoisonedData,
    Run,
    changed_rows,
    folder,
    key,
    scheduled,
    training_data,
    visited,
)
from poisonjax.runs.judging import analyse, judge
from poisonjax.runs.pictures import pictures, says, shown
from poisonjax.runs.training import defended
from poisonjax.runtime import distributed
from poisonjax.runtime.workdir import cached_json, save_arrays, write_atomic
from poisonjax.training.prefetch import HostData
from poisonjax.types import Examples, take


def load(
    experiment: Experiment, data_dir: str | None = None, whole: Callable[[Data], Dataset] | None = None
) -> Dataset:
    """The rows of the data set that the experiment uses. ValueError if the two do not fit.

    whole: loads a data set as a whole; None for the data's own way, from data_dir.
    """
    used = experiment.data.used(whole(experiment.data) if whole else experiment.data.load(data_dir))
    shape = used.train.image.shape[1:]
    experiment.check(used.classes, shape, len(used.train.label))
    if used.facts:
        experiment.check_parts(shape)
    changed_rows(experiment.poison, used.train.label, 0)  # raises if rows are too few
    for analysis in experiment.analyses:
        analysis.check(used.test, experiment.poison)
    return used


def run(job: Run) -> dict:
    """Poison, train and judge, seed by seed; write figures, report.md and record.json; the record."""
    (job,) = scheduled([job]) if job.agenda.empty else [job]
    warnings, seeds = job.experiment.warnings(), range(job.seeds)
    poisonings, judged = zip(*distributed.map_over_devices(lambda seed: one_seed(job, seed), seeds), strict=True)
    results = {arm.name: [of[arm.name] for of in judged] for arm in job.experiment.arms}
    facts = [of.facts for of in poisonings]
    command = record.command(job.source or job.experiment.name, job.scale, job.seeds, job.changed, job.chosen)
    made = record.build(
        job.experiment, job.dataset, job.scale, list(job.changed), list(seeds), results, facts, warnings, command
    )
    if distributed.is_primary():
        say("writing the report and its figures ...")
        write(job, made, poisonings[0])
    return made


def one_seed(job: Run, seed: int) -> tuple[PoisonedData, dict[str, dict]]:
    """The poisoned training data, and every arm's result on it."""
    job = fitted(job, seed)
    poisoning = poison_data(job, seed)
    return poisoning, {arm.name: train_and_judge(job, seed, arm, poisoning) for arm in job.experiment.arms}


def poison_data(job: Run, seed: int) -> PoisonedData:
    """The training data as the attacker leaves it. Of a seed that is done only the facts are needed, which are kept."""
    poison, clean = job.experiment.poison, job.dataset.train
    chosen, covering = changed_rows(poison, clean.label, seed)
    rows, cover = clean.index[chosen], clean.index[covering]
    crafted = functools.cache(lambda: craft(job, seed, take(clean, chosen)))

    def facts() -> dict:
        counted = {"rows": len(rows), "of": len(chosen)} | ({"cover": len(cover)} if len(cover) else {})
        counted |= poison.facts()
        return counted | ({ATTACKER: crafted()[1]} if poison.needs_surrogate else {})

    def train() -> Examples | HostData:
        apply = poison.crafted(crafted()[0]) if poison.needs_surrogate else poison.apply
        return training_data(job, lambda examples: poisoned(poison.apply_cover, poisoned(apply, examples, rows), cover))

    place = folder(job, seed, "poison.json")
    place.parent.mkdir(parents=True, exist_ok=True)
    kept = cached_json(place, facts, warn=say, share=distributed.from_primary)
    job.agenda.passed(key(job, seed, ATTACKER))
    return PoisonedData(functools.cache(train), rows, cover, kept)


def train_and_judge(job: Run, seed: int, arm: Arm, poisoning: PoisonedData) -> dict:
    """One arm of one seed, as the record needs it; computed once."""
    place = folder(job, seed, arm.name)
    place.mkdir(parents=True, exist_ok=True)

    def compute() -> dict:
        with visited(job, seed, arm.name):
            return _result(job, seed, arm, poisoning)

    made = cached_json(place / "result.json", compute, warn=say, share=distributed.from_primary)
    own = key(job, seed, arm.name)
    if job.agenda.passed(own):
        say(f"{job.agenda.title(own)}: already done")
    return made


def _result(job: Run, seed: int, arm: Arm, poisoning: PoisonedData) -> dict:
    trained, victim, removed, detection, learnt = defended(job, seed, arm, poisoning)
    victim = distributed.replicate(victim)
    counts, audit, predictions = judge(job, seed, arm.name, victim, trained.history if arm.poisoned else ())
    looks, history = job.experiment.analyses, trained.history
    return {
        "analyses": {each.name: analyse(job, seed, arm, victim, each, learnt, history) for each in looks},
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained.state.params)),
        "counts": {name: count.to_json() for name, count in (counts | removed).items()},
        "detection": detection,
        "audit": audit,
        "says": says(job, predictions),
        "notes": metrics.catastrophic_overfitting(trained.history),
        "history": _ending(trained.history, counts),
        "images": trained.images,
        "seconds": trained.seconds,
        "environment": record.environment(),
    }


def _ending(history: list[dict], counts: dict[str, Count]) -> list[dict]:
    """The curves, ending at what was measured: those of a shared network know no attack success rate."""
    measured = {name: counts[name].value for name in ("attack_success_rate",) if counts[name].denominator}
    return [*history[:-1], history[-1] | measured]


def write(job: Run, made: dict, poisoning: PoisonedData) -> None:
    """Figures, report.md and, last of all, record.json. Pictures are of the first seed: more seeds change none."""
    first = not (job.workdir / "record.json").exists()
    names = figures.draw(made, _pictures(job, poisoning, made) if first else {}, job.workdir / "figures")
    write_atomic(job.workdir / "report.md", table.markdown(made, [f"figures/{name}" for name in names]))
    write_atomic(job.workdir / "record.json", json.dumps(made, indent=1, allow_nan=False) + "\n")


def _pictures(job: Run, poisoning: PoisonedData, made: dict) -> dict[str, Figure]:
    """The figures that do not follow from the record alone; the images in them are kept for others."""
    images = shown(fitted(job, 0), poisoning)
    if images is not None:
        save_arrays(job.workdir / "shown.npz", images)
    return pictures(job, images, made)
