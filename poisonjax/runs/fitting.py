"""The poison of a seed, fitted to the clean training rows where it needs them."""

import dataclasses

from poisonjax.overrides import from_json, to_json
from poisonjax.poisons import NoPoison, Poison
from poisonjax.poisons.base import Outputs
from poisonjax.reports.console import say
from poisonjax.runs.job import ATTACKER, Run, folder, visited
from poisonjax.runs.training import surrogate
from poisonjax.runtime import distributed
from poisonjax.runtime.workdir import cached_json


def fitted(job: Run, seed: int) -> Run:
    """The run with its poison as it is for a seed, computed once; the run itself for a poison that needs no rows."""
    poison = job.experiment.poison
    if not poison.needs_rows:
        return job

    unarmed = _with(job, NoPoison(poison.classes))  # curves of the surrogate show what there is before the trigger

    def network() -> Outputs:
        with visited(job, seed, ATTACKER):
            return surrogate(unarmed, seed).outputs

    place = folder(job, seed, "fitted.json")
    place.parent.mkdir(parents=True, exist_ok=True)
    kept = cached_json(
        place, lambda: to_json(poison.fitted(job.dataset.train, network)), warn=say, share=distributed.from_primary
    )
    return _with(job, from_json(kept, Poison))


def _with(job: Run, poison: Poison) -> Run:
    return dataclasses.replace(job, experiment=dataclasses.replace(job.experiment, poison=poison))
