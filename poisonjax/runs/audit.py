"""An audit of training data of one's own: filters of rows, as a run of an experiment without a poison."""

import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from poisonjax.attacks import PGD, Linf
from poisonjax.data import Dataset
from poisonjax.data.near_duplicates import near_duplicates
from poisonjax.defences import MaskedDisagreement, RepeatedPatch, Reveal
from poisonjax.experiment import Arm, Data, Evaluation, Experiment, loader
from poisonjax.models import WongCNN
from poisonjax.poisons import NoPoison
from poisonjax.reports.audit import page, tables
from poisonjax.reports.audit.findings import Report, findings, suspicious_rows, verdict
from poisonjax.reports.record import commit
from poisonjax.runs import planted, runner, start
from poisonjax.runs.job import identity
from poisonjax.runs.training import Rows
from poisonjax.runtime.workdir import load_arrays, write_atomic
from poisonjax.training import Adam, AdversarialTraining, Cosine, Training

LEFT = {
    "standard": "all rows",
    "repeated_patch": "rows that share no patch",
    "reveal": "rows that networks under attack do not set apart",
    "masked_disagreement": "rows that look like their class behind every mask",
}  # what networks are trained on, by arm
IMAGES = 64_000  # that a network sees, in whole epochs
EPOCHS = 3, 30  # at least, at most
STEPS = 10  # of the attack that networks are trained under
GREY, COLOUR = (0.1, 0.2, 0.3), (4 / 255, 8 / 255, 16 / 255)  # budgets; what images in colour can be learnt under


def experiment(data: Data, whole: Dataset, budgets: Sequence[float] | None = None) -> Experiment:
    """The audit of a data set: a network on all rows, and one on what each filter leaves.

    budgets: of the networks that are trained under attack, Linf radii; None for GREY or COLOUR. ValueError for
    budgets that are none, and for rows of features.
    """
    if whole.train.image.ndim != 4:
        raise ValueError(f"{data.name}: has rows of features; an audit is for images")
    rows, (height, width, channels) = len(whole.train.label), whole.train.image.shape[1:]
    used = budgets or (GREY if channels == 1 else COLOUR)
    judges = [AdversarialTraining(PGD(Linf(eps), step=eps / 4, steps=STEPS), eps_warmup=0.3) for eps in used]
    epochs = int(np.clip(round(IMAGES / rows), *EPOCHS))
    return Experiment(
        name="audit",
        title=f"Filters of training rows on {data.name}.",
        paper_table="",
        data=data,
        model=WongCNN(classes=whole.classes),
        poison=NoPoison(classes=whole.classes),
        train=Training(batch=min(100, rows), epochs=epochs, optimizer=Adam(4e-3, Cosine())),
        evaluation=Evaluation(judges[-1].attack, batch=min(500, len(whole.test.label))),
        arms=(
            Arm("standard"),
            Arm("repeated_patch", defence=RepeatedPatch()),
            Arm("reveal", defence=Reveal(tuple(judges))),
            Arm("masked_disagreement", defence=MaskedDisagreement(size=max(2, round(min(height, width) / 6)))),
        ),
    )


def run(
    data: Data,
    out: str | os.PathLike,
    data_dir: str | None = None,
    budgets: Sequence[float] | None = None,
    rates: Sequence[float] = (),
) -> Report:
    """Audit a data set, or resume; write audit.html, audit.json, audit.sarif, suspicious.csv and keep.npy to `out`.

    rates: if nothing is found, poison is planted in so many of the rows, as a test of what would have been. The
    networks are kept below `out`. ValueError for bad input, `training.Interrupted` and OSError as `start.run`.
    """
    whole = loader(data_dir)  # once: rows of one's own may have to be decoded each time
    plan, folder = experiment(data, whole(data), budgets), pathlib.Path(out)
    dataset, home = runner.load(plan, whole=whole), os.fspath(folder / "run")
    settings = start.Settings(home, data_dir=data_dir, shared=os.fspath(folder / "run" / "shared"))
    with start.opened(plan, dataset, identity(plan, "audit", dataset), settings, "audit") as job:
        record = start.finished(job) or runner.run(job)
    filters = [arm.name for arm in plan.arms if arm.defence is not None]
    rows = {name: load_arrays(folder / "run/seed0" / name / "rows.npz", Rows) for name in filters}
    found = findings(dataset, {name: (each.kept, each.suspicion) for name, each in rows.items()})
    said, alike = verdict(dataset, found), near_duplicates(dataset.train)
    report = Report(dataset, said, found, alike, limits(len(dataset.train.label)), _facts(plan, record))
    if rates and not said.suspicious:
        report = report._replace(planted=planted.trials(plan, folder / "power", rates, data_dir, whole))
    _write(folder, report)
    return report


def limits(rows: int) -> list[str]:
    """Poison that an audit of so many rows cannot see, a line each."""
    least = RepeatedPatch().fewest(rows)
    return [
        f"A trigger that is the same in fewer than {least:,} rows ({least / rows:.2%}), or in none to the last bit: "
        "blended over the image, warped, noisy, compressed, or at random places. Only the networks that are trained "
        "under attack look for those.",
        "Poison from every class to the next whose trigger is not the same in every row: its rows spread through the "
        "losses of every class.",
        "Wrong labels without a trigger, perturbations of all rows, and poison that is aimed at a single image.",
        "Whether a row is poisoned or an honest mistake: look at the pictures before you drop it.",
    ]


def _facts(plan: Experiment, record: dict) -> dict:
    arms = record["arms"]
    networks = {
        LEFT[name]: {"removed": _removed(arm), "accuracy": arm["clean_accuracy"]["mean"]} for name, arm in arms.items()
    }
    budgets = [
        f"{judge.attack.ball.eps:g}" for arm in plan.arms if arm.name == "reveal" for judge in arm.defence.judges
    ]
    settings = {
        "network": type(plan.model).__name__,
        "epochs": plan.train.epochs,
        "budgets of the attack (Linf)": ", ".join(budgets),
        "poisonjax": commit(),
    }
    return {"networks": networks, "settings": settings}


def _removed(arm: dict) -> int:
    return arm["clean_rows_removed"]["numerator"][0] if "clean_rows_removed" in arm else 0


def _write(folder: pathlib.Path, report: Report) -> None:
    """All files; keep.npy is a mask of the training rows."""
    dataset, found = report.dataset, report.findings
    keep = np.ones(len(dataset.train.label), bool)
    keep[suspicious_rows(found)] = False
    content = io.BytesIO()
    np.save(content, keep)
    files = {
        "keep.npy": content.getvalue(),
        "suspicious.csv": tables.to_csv(dataset, found),
        "audit.sarif": tables.to_sarif(dataset, found),
        "audit.html": page.render(report),
        "audit.json": tables.to_json(report),
    }
    for name, text in files.items():
        write_atomic(folder / name, text)
