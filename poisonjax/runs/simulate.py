"""An attack on a pipeline of one's own, tried out: poisons at several rates against filters, on one's own data."""

import dataclasses
import json
import os
from collections.abc import Sequence

from poisonjax.data import Dataset
from poisonjax.experiment import Arm, Data, Experiment, loader
from poisonjax.reports import simulation
from poisonjax.runs import audit, planted
from poisonjax.runtime.workdir import write_atomic


def experiment(data: Data, whole: Dataset) -> Experiment:
    """The pipeline: standard and adversarial training on poisoned data, filters before it, and a control without."""
    plan = audit.experiment(data, whole)
    arms = {arm.name: arm for arm in plan.arms}
    hardest = arms["reveal"].defence.judges[-1]
    return dataclasses.replace(
        plan,
        name="simulation",
        title=f"Attacks on {data.name}, tried out.",
        arms=(
            Arm("standard"),
            Arm("pgd_at", hardest),
            *(arms[name] for name in planted.FILTERS),
            Arm("standard_clean_data", poisoned=False),
        ),
    )


def run(
    data: Data,
    out: str | os.PathLike,
    rates: Sequence[float] = (0.01, 0.1),
    asked: Sequence[str] = (),
    data_dir: str | None = None,
    seeds: int = 1,
) -> tuple[int, str]:
    """Try the poisons, or resume; write simulation.md and simulation.json to `out`; the exit status and the table.

    asked: as `planted.poisons` takes them. Every point is a run of its own below `out`, with its report. ValueError
    for bad input, `training.Interrupted` and OSError as `start.run`.
    """
    whole = loader(data_dir)
    texts = planted.poisons(rates, asked, whole(data))
    with planted.opened(experiment(data, whole(data)), texts, out, data_dir, whole, seeds) as (folder, status, records):
        rows = simulation.rows(records)
        write_atomic(folder / "simulation.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
        write_atomic(folder / "simulation.md", simulation.markdown(data.name, rows))
    return status, "\n".join(map(simulation.sentence, rows))
