"""Rows that the attacker crafts against a network of its own, trained on clean data."""

from collections.abc import Callable, Hashable

import numpy as np

from poisonjax.evaluation.victim import Victim, map_rows, row_outputs, structure
from poisonjax.keys import row_keys, stream_key
from poisonjax.poisons.base import Poison
from poisonjax.runs.job import ATTACKER, Run, progress, store, visited
from poisonjax.runs.judging import judge
from poisonjax.runs.training import surrogate
from poisonjax.runtime import distributed
from poisonjax.types import Array, Examples


def craft(job: Run, seed: int, rows: Examples) -> tuple[Examples, dict]:
    """The rows crafted against the attacker's own network, and how accurate and robust that is; computed once."""
    kept = store(job, seed, "crafted")
    found = kept.latest(rows)
    if found is None:
        with visited(job, seed, ATTACKER):
            made, facts = _attack_surrogate(job, seed, rows)
        kept.save(0, made, facts)
        return made, facts
    return found[1:]


def _attack_surrogate(job: Run, seed: int, rows: Examples) -> tuple[Examples, dict]:
    plan, victim = job.experiment, distributed.replicate(surrogate(job, seed))
    centres = distributed.replicate(_centres(job, victim) if plan.poison.needs_centres else None)
    with progress(job, seed, ATTACKER, "poison", len(rows.label)) as advance:
        key = distributed.replicate(stream_key(seed, "craft"))
        crafter = _crafter(structure(victim), plan.poison)
        made = crafter(rows, plan.evaluation.batch, victim, centres, key, advance=advance)
    counts = judge(job, seed, ATTACKER, victim).counts
    return made, {name: counts[name].value for name in ("clean_accuracy", "robust_accuracy")}


def _centres(job: Run, victim: Victim) -> np.ndarray:
    """The mean features of each class of the clean training rows, [k d]."""
    rows = job.dataset.train
    features = map_rows(row_outputs, victim, rows, job.experiment.evaluation.batch)[1]
    return np.stack([features[rows.label == label].mean(0) for label in range(job.dataset.classes)])


@distributed.cached
def _crafter(victim: Hashable, poison: Poison) -> Callable:
    def perturb(examples: Examples, victim: Victim, centres: Array | None, key: Array) -> Examples:
        logits_fn = poison.view(victim.outputs, centres)
        return poison.perturb(logits_fn, examples, row_keys(key, examples.index, 0))

    return distributed.over_rows(perturb)
