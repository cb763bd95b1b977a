"""A defence tried on a run that exists: one arm more."""

import dataclasses
import json
import os
import re

from poisonjax.defences.base import Defence
from poisonjax.experiment import Experiment
from poisonjax.runs import start
from poisonjax.runs.trained import arm_of, load_experiment
from poisonjax.runtime import bucket


def defend(
    workdir: str | os.PathLike,
    defence: Defence,
    arm: str = "standard",
    name: str | None = None,
    data_dir: str | os.PathLike | None = None,
    experiment: str | None = None,
) -> dict:
    """Add an arm to a run, one that is there but behind a defence; train and judge it for every seed; the record.

    The other arms are left as they are, and the whole report is renewed. arm: whose objective, network and data it has.
    name: of the new arm; default: made of both. data_dir, experiment: as `load_victim` takes them. ValueError if there
    is no such run or arm, or the defence needs clean data that the run has not set apart; otherwise as `run`.
    """
    made = _record(workdir)
    more = with_defence(load_experiment(workdir, experiment), defence, arm, name)
    told = {"scale": made["scale"], "changed": made["changed"], "source": experiment or ""}
    return start.run(more, workdir, len(made["seeds"]), data_dir, **told)


def _record(workdir: str | os.PathLike) -> dict:
    """The record of a run. ValueError if it has not come to its end."""
    with bucket.local(workdir) as folder:
        try:
            return json.loads((folder / "record.json").read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"{os.fspath(workdir)} has no record of a run that is done ({error})") from None


def with_defence(plan: Experiment, defence: Defence, arm: str, name: str | None = None) -> Experiment:
    """The experiment with one arm more, after the others. ValueError as `defend`."""
    chosen, arms = arm_of(plan, arm), {each.name: each for each in plan.arms}
    if chosen.defence is not None:
        raise ValueError(f"arm {arm} has a defence already; choose one without, such as standard")
    kind = _snake(type(defence).__name__)
    name = name or (kind if arm == "standard" else f"{kind}_{arm}")
    made = dataclasses.replace(chosen, name=name, defence=defence)
    if arms.get(name, made) != made:
        raise ValueError(f"the run has another arm {name!r}; give this one a name of its own")
    return plan if name in arms else dataclasses.replace(plan, arms=(*plan.arms, made))


def _snake(name: str) -> str:
    """ActivationClustering as activation_clustering, STRIP as strip."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
