"""Poison planted in data of one's own, at several rates: each poison and rate is a run of a sweep."""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

from poisonjax.data import Dataset
from poisonjax.experiment import Data, Experiment
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.reports.audit.findings import Planted
from poisonjax.runs import runner, start, sweep

RATE = "{rate}"  # in the text of a poison: where the rate goes
FILTERS = ("repeated_patch", "reveal")  # those that raise an alarm


def poisons(rates: Sequence[float], asked: Sequence[str], whole: Dataset) -> list[str]:
    """The poisons to plant, as --sweep takes them. asked: texts with RATE in them; if none, a patch and a blend.

    ValueError for a text without RATE.
    """
    side = max(2, round(min(whole.train.image.shape[1:3]) / 9))
    classes = "" if whole.classes == BadNets.classes else f", {whole.classes}"
    usual = [f"BadNets({RATE}, 0, {trigger}{classes})" for trigger in (f"BrightSquare({side})", "Blend(.2)")]
    for text in asked:
        if RATE not in text:
            raise ValueError(f"--poison={text}: must have {RATE} where the rate goes, as in {usual[0]}")
    return [text.replace(RATE, f"{rate:g}") for text in asked or usual for rate in rates]


@contextlib.contextmanager
def opened(
    plan: Experiment,
    texts: Sequence[str],
    out: str | os.PathLike,
    data_dir: str | None,
    whole: Callable[[Data], Dataset],
    seeds: int = 1,
) -> Iterator[tuple[pathlib.Path, int, dict[str, dict]]]:
    """Run the plan with each of the poisons, or resume: the folder, the exit status, and {poison: record}.

    The records are of the runs that are done, whose networks are shared below `out` alone. whole: loads data. Errors as
    `start.run`.
    """
    plan = dataclasses.replace(plan, poison=BadNets(0.1, 0, BrightSquare(), classes=whole(plan.data).classes))
    points = sweep.grid(plan, {"poison": texts}, functools.partial(runner.load, whole=whole))
    config = sweep.identity(plan, plan.name, [], points)
    settings = start.Settings(os.fspath(out), seeds, data_dir, shared=os.fspath(pathlib.Path(out) / "shared"))
    with start.opened(plan, points[0].dataset, config, settings, plan.name) as job:
        status = sweep.run(job, points)
        made = {point.settings["poison"]: sweep.recorded(sweep.job_of(job, point)) for point in points}
        yield job.workdir, status, {poison: record for poison, record in made.items() if record is not None}


def trials(
    audit: Experiment,
    out: str | os.PathLike,
    rates: Sequence[float],
    data_dir: str | None,
    whole: Callable[[Data], Dataset],
) -> list[Planted]:
    """What the filters of an audit name of poison planted in its data, or resume below `out`. Errors as `start.run`."""
    arms = tuple(arm for arm in audit.arms if arm.name in ("standard", *FILTERS))
    plan = dataclasses.replace(audit, name="power", title=f"Poison planted in {audit.data.name}.", arms=arms)
    with opened(plan, poisons(rates, (), whole(audit.data)), out, data_dir, whole) as (_, _, records):
        return [_named(poison, record) for poison, record in records.items()]


def _named(poison: str, record: dict) -> Planted:
    arms = record["arms"]
    named = {name: arms[name]["poisoned_rows_removed"]["numerator"][0] for name in FILTERS}
    return Planted(poison, record["poison"][0]["rows"], arms["standard"]["attack_success_rate"]["mean"], named)
