"""Rows that the attacker crafts against networks of its own, the first of them trained on clean data."""

from collections.abc import Callable, Hashable

import numpy as np

from poisonjax.data import Dataset
from poisonjax.evaluation.victim import Victim, map_rows, row_outputs, structure
from poisonjax.keys import row_keys, stream_key
from poisonjax.poisons.base import Poison
from poisonjax.runs.job import ATTACKER, Run, progress, store, visited
from poisonjax.runs.judging import judge
from poisonjax.runs.training import surrogate
from poisonjax.runtime import distributed
from poisonjax.types import Array, Examples


def craft(job: Run, seed: int, rows: Examples) -> tuple[Examples, dict]:
    """The rows as the last round left them, and how accurate and robust the first surrogate is; computed once."""
    kept, last = store(job, seed, "crafted"), job.experiment.poison.rounds - 1
    done, made, facts = kept.latest(rows) or (-1, rows, {})
    if done < last:
        with visited(job, seed, ATTACKER):
            for number in range(done + 1, last + 1):
                made, facts = _round(job, seed, number, rows, made, facts)
                kept.save(number, made, facts)
    return made, facts


def _round(job: Run, seed: int, number: int, rows: Examples, before: Examples, facts: dict) -> tuple[Examples, dict]:
    """The rows crafted against the surrogate of a round, which learnt from what the round before left."""
    plan, left = job.experiment, (before,) if number else ()
    victim = distributed.replicate(surrogate(job, seed, number, *left))
    given = distributed.replicate(needed(plan.poison, job.dataset, victim, plan.evaluation.batch))
    with progress(job, seed, ATTACKER, "poison", len(rows.label)) as advance:
        key = distributed.replicate(stream_key(seed, "craft"))
        crafting = crafter(structure(victim), plan.poison, number)
        trees = (victim, given, key, *map(distributed.replicate, left))
        made = crafting(rows, plan.evaluation.batch, *trees, advance=advance)
    if not number:
        counts = judge(job, seed, ATTACKER, victim).counts
        facts = {name: counts[name].value for name in ("clean_accuracy", "robust_accuracy")}
    return made, facts


def needed(poison: Poison, dataset: Dataset, victim: Victim, batch: int) -> np.ndarray | Examples | None:
    """What the poison's view of a surrogate takes of the clean training rows, if anything: centres, or sources."""
    rows = dataset.train
    if not poison.needs_centres:
        return poison.sources(rows)
    features = map_rows(row_outputs, victim, rows, batch)[1]
    return np.stack([features[rows.label == label].mean(0) for label in range(dataset.classes)])


@distributed.cached
def crafter(victim: Hashable, poison: Poison, number: int) -> Callable:
    """(rows [n], batch, victim, what is `needed`, key, *the rows before) -> the rows after the round of that number.

    victim: the `structure` of that on the devices. As `distributed.over_rows` has it.
    """

    def perturb(examples: Examples, victim: Victim, given: Array | None, key: Array, *before: Examples) -> Examples:
        seen = poison.view(victim.outputs, given)
        return poison.perturb(seen, examples, row_keys(key, examples.index, number), *before)

    return _at_once(perturb) if poison.joint else distributed.over_rows(perturb)


def _at_once(fn: Callable) -> Callable:
    """As `distributed.over_rows`, but all rows at once and on each device, so that devices do not divide them."""
    program = distributed.parallel(fn)

    def every(examples: Examples, batch: int, *trees, advance: Callable[[int], None]) -> Examples:
        made = distributed.fetch(program(distributed.replicate(examples), *trees))
        advance(len(examples.label))
        return made

    return every
