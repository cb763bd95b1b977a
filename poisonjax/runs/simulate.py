"""An attack on a pipeline of one's own, tried out: poisons at several rates against filters, on one's own data."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence

from poisonjax.data import Dataset
from poisonjax.experiment import Arm, Data, Experiment, loader
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.reports import simulation
from poisonjax.runs import audit, runner, start, sweep
from poisonjax.runtime.workdir import write_atomic

RATE = "{rate}"  # in the text of a poison: where the rate goes
FILTERS = ("repeated_patch", "reveal")


def experiment(data: Data, whole: Dataset) -> Experiment:
    """The pipeline: standard and adversarial training on poisoned data, filters before it, and a control without."""
    plan = audit.experiment(data, whole)
    arms = {arm.name: arm for arm in plan.arms}
    hardest = arms["reveal"].defence.judges[-1]
    return dataclasses.replace(
        plan,
        name="simulation",
        title=f"Attacks on {data.name}, tried out.",
        poison=BadNets(0.1, 0, BrightSquare(), classes=whole.classes),
        arms=(
            Arm("standard"),
            Arm("pgd_at", hardest),
            *(arms[name] for name in FILTERS),
            Arm("standard_clean_data", poisoned=False),
        ),
    )


def poisons(rates: Sequence[float], asked: Sequence[str], whole: Dataset) -> list[str]:
    """The poisons to try, as --sweep takes them. asked: texts with RATE in them; a patch and a blend if there are none.

    ValueError for a text without RATE.
    """
    side = max(2, round(min(whole.train.image.shape[1:3]) / 9))
    classes = "" if whole.classes == BadNets.classes else f", {whole.classes}"
    usual = [f"BadNets({RATE}, 0, {trigger}{classes})" for trigger in (f"BrightSquare({side})", "Blend(.2)")]
    for text in asked:
        if RATE not in text:
            raise ValueError(f"--poison={text}: must have {RATE} where the rate goes, as in {usual[0]}")
    return [text.replace(RATE, f"{rate:g}") for text in asked or usual for rate in rates]


def run(
    data: Data,
    out: str | os.PathLike,
    rates: Sequence[float] = (0.01, 0.1),
    asked: Sequence[str] = (),
    data_dir: str | None = None,
    seeds: int = 1,
) -> tuple[int, str]:
    """Try the poisons, or resume; write simulation.md and simulation.json to `out`; the exit status and the table.

    asked: as `poisons` takes them. Every point is a run of its own below `out`, with its report. ValueError for bad
    input, `training.Interrupted` and OSError as `start.run`.
    """
    whole = loader(data_dir)
    plan = experiment(data, whole(data))
    load = functools.partial(runner.load, whole=whole)
    points = sweep.grid(plan, {"poison": poisons(rates, asked, whole(data))}, load)
    settings = start.Settings(os.fspath(out), seeds, data_dir, shared=os.fspath(pathlib.Path(out) / "shared"))
    config = sweep.identity(plan, "simulation", [], points)
    with start.opened(plan, points[0].dataset, config, settings, "simulation") as job:
        status = sweep.run(job, points)
        made = {point.settings["poison"]: sweep.recorded(sweep.job_of(job, point)) for point in points}
        rows = simulation.rows({poison: record for poison, record in made.items() if record is not None})
        write_atomic(job.workdir / "simulation.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
        write_atomic(job.workdir / "simulation.md", simulation.markdown(data.name, rows))
    return status, "\n".join(map(simulation.sentence, rows))
