"""A grid of runs: every combination of some settings, each an ordinary run in its own folder."""

import ast
import dataclasses
import hashlib
import itertools
import json
import re
import textwrap
import traceback
from collections.abc import Callable, Iterable
from typing import NamedTuple

from poisonjax.data import Dataset
from poisonjax.experiment import Data, Experiment
from poisonjax.overrides import override, to_json
from poisonjax.reports.console import say
from poisonjax.reports.table import LABELS, MAIN, legend, marked
from poisonjax.reports.text import columns
from poisonjax.runs import runner
from poisonjax.runs.job import GROWING, Run, scheduled
from poisonjax.runs.job import identity as run_identity
from poisonjax.runtime import bucket, distributed
from poisonjax.runtime.workdir import WorkdirError, write_atomic
from poisonjax.training import Interrupted

FORMAT = 1  # of sweep.json
LONGEST = 150  # characters of a folder's name


class Point(NamedTuple):
    """One combination. settings: {path: value as given}. dataset: the rows that its experiment uses."""

    settings: dict[str, str]
    experiment: Experiment
    dataset: Dataset


class Outcome(NamedTuple):
    """State of a point. status: done, failed or missing. error: one line if it failed."""

    status: str
    error: str | None = None


def axes(sweeps: Iterable[str], fixed: Iterable[str]) -> dict[str, list[str]]:
    """{path: values as given} of the texts of --sweep. fixed: those of --set. ValueError naming the bad one."""
    found: dict[str, list[str]] = {}
    for text in sweeps:
        try:
            path, values = parse(text)
            _check_free(path, found, fixed)
        except ValueError as error:
            raise ValueError(f"--sweep {text}: {error}") from None
        found[path] = values
    return found


def parse(text: str) -> tuple[str, list[str]]:
    """`path=value,value` as path and values; a comma inside brackets does not separate. ValueError if malformed."""
    path, equals, rest = text.partition("=")
    if not (equals and path and rest):
        raise ValueError("must have the form section.field=value,value, as in poison.rate=.01,.05")
    values = [value.strip() for value in _split(rest)]
    if "" in values:
        raise ValueError("has an empty value; one comma stands between two values, as in poison.rate=.01,.05")
    if twice := [value for value in values if values.count(value) > 1]:
        raise ValueError(f"has {twice[0]} twice; each value is allowed once")
    return path, values


def _split(text: str) -> list[str]:
    """Parts between the commas outside brackets. ValueError for unbalanced brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([") - (char in ")]")
        if depth < 0:
            break
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    if depth:
        raise ValueError("has brackets that do not match; allowed is a value such as L2(2)")
    return parts


def _check_free(path: str, swept: Iterable[str], fixed: Iterable[str]) -> None:
    if path in swept:
        raise ValueError(f"{path} is swept twice; one --sweep takes all its values")
    for text in fixed:
        other = text.partition("=")[0]
        if other == path or other.startswith(f"{path}."):
            raise ValueError(f"--set {text} would be lost; {path} may be swept or set, not both")


def grid(base: Experiment, axes: dict[str, list[str]], load: Callable[[Experiment], Dataset]) -> list[Point]:
    """Every combination, the last path moving fastest, each checked against its data; no two are the same run.

    load: the rows that an experiment uses, ValueError if they do not fit. ValueError naming flag and value.
    """
    settings = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    plans = [_configured(base, each) for each in settings]
    _check_distinct(settings, plans)
    kept: dict[Data, Dataset] = {}  # all points with the same rows share one copy
    return [
        Point(each, plan, kept.setdefault(plan.data, _loaded(each, plan, load)))
        for each, plan in zip(settings, plans, strict=True)
    ]


def _configured(experiment: Experiment, settings: dict[str, str]) -> Experiment:
    for assignment in assignments(settings):
        try:
            experiment = override(experiment, assignment)
        except ValueError as error:
            raise ValueError(f"--sweep {assignment}: {error}") from None
    return experiment


def _check_distinct(settings: list[dict[str, str]], plans: list[Experiment]) -> None:
    seen: dict[str, dict[str, str]] = {}
    for each, plan in zip(settings, plans, strict=True):
        for mark in (json.dumps(to_json(plan)), folder(each)):
            if seen.setdefault(mark, each) is not each:
                raise ValueError(f"{_flags(seen[mark])} and {_flags(each)} are the same run; each is allowed once")


def _loaded(settings: dict[str, str], plan: Experiment, load: Callable[[Experiment], Dataset]) -> Dataset:
    try:
        return load(plan)
    except ValueError as error:
        raise ValueError(f"{_flags(settings)}: {error}") from None


def assignments(settings: dict[str, str]) -> list[str]:
    """The settings as --set takes them."""
    return [f"{path}={value}" for path, value in settings.items()]


def _flags(settings: dict[str, str]) -> str:
    return " ".join(f"--sweep {assignment}" for assignment in assignments(settings))


def home(experiment: Experiment, scale: str, points: list[Point]) -> str:
    """The default workdir of a sweep: other paths, another folder."""
    paths = ",".join(sorted(points[0].settings))
    return f"runs/{experiment.name}/{scale}-sweep/{_name(paths, paths)}"


def identity(experiment: Experiment, scale: str, fixed: list[str], points: list[Point]) -> dict:
    """The config that a sweep's workdir is bound to. Only the swept values may change."""
    return {"experiment": experiment.name, "scale": scale, "set": fixed, "sweep": sorted(points[0].settings)}


def folder(settings: dict[str, str]) -> str:
    """The name of a point's folder: its settings, safe on any file system, at most LONGEST characters.

    It depends neither on the other points nor on the order of the paths nor on how a number is written.
    """
    exact = {path: _spelled(settings[path]) for path in sorted(settings)}
    safe = {path: re.sub(r"[^\w.+-]+", "-", value, flags=re.ASCII).rstrip("-") for path, value in exact.items()}
    return _name(",".join(assignments(safe)), ",".join(assignments(exact)))


def _spelled(value: str) -> str:
    """The canonical spelling of a value: 0.1 for .10, BrightSquare(4) for BrightSquare( 4 )."""
    try:
        return ast.unparse(ast.parse(value, mode="eval")).replace(" ", "")
    except SyntaxError:
        return value


def _name(safe: str, exact: str) -> str:
    """The safe name, with a digest of the exact one where they differ."""
    if safe == exact and len(safe) <= LONGEST:
        return safe
    digest = hashlib.sha256(exact.encode()).hexdigest()[:8]
    return f"{safe[: LONGEST - 9]}~{digest}"


def run(job: Run, points: list[Point]) -> int:
    """Run the points that are not done, print all results, and return the exit status: 1 if a point failed.

    job: what the points share; its workdir is the sweep's. Interrupted on request, OSError if the disk is full.
    """
    jobs = scheduled([job_of(job, point) for point in points])
    outcomes = [Outcome("missing" if recorded(each) is None else "done") for each in jobs]
    note(job, points, outcomes)
    for at, (point, each) in enumerate(zip(points, jobs, strict=True)):
        name = f"point {at + 1} of {len(points)}: {' '.join(assignments(point.settings))}"
        outcomes[at] = _visit(each, name, outcomes[at].status == "done")
        note(job, points, outcomes)
    done = [outcome.status == "done" for outcome in outcomes]
    records = [recorded(each) if whole else None for each, whole in zip(jobs, done, strict=True)]
    print(summary(points, records))
    return _conclude(job, outcomes)


def _visit(job: Run, name: str, done: bool) -> Outcome:
    """One point, with a line before it, and one after it if it failed."""
    if job.stop_requested():
        raise Interrupted(f"stopped before {name}")
    say(f"{name} is done already" if done else name)
    outcome = attempt(job)
    if outcome.status == "failed":
        say(f"{name} failed: {outcome.error}")
    distributed.clear_caches()  # the programs of all points would pile up
    return outcome


def _conclude(job: Run, outcomes: list[Outcome]) -> int:
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} points done, {failed} failed\n{job.home}/sweep.json")
    return 1 if failed else 0


def job_of(job: Run, point: Point) -> Run:
    """The run of one point of a sweep."""
    return dataclasses.replace(
        job,
        experiment=point.experiment,
        dataset=point.dataset,
        workdir=job.workdir / folder(point.settings),
        changed=(*job.changed, *assignments(point.settings)),
    )


def recorded(job: Run) -> dict | None:
    """The record of a run, if it is complete and has all requested seeds and arms."""
    try:
        record = json.loads((job.workdir / "record.json").read_bytes())
        whole = len(record["seeds"]) >= job.seeds and all(arm.name in record["arms"] for arm in job.experiment.arms)
        return record if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def attempt(job: Run) -> Outcome:
    """Run one point, unless it is done. Interrupted on request; any other error is its outcome.

    error.txt in its folder has the traceback of an error that does not explain itself.
    """
    try:
        with bucket.claimed(job.workdir, run_identity(job.experiment, job.scale, job.dataset), growing=GROWING):
            if recorded(job) is None:
                runner.run(job)
            (job.workdir / "error.txt").unlink(missing_ok=True)
    except Interrupted:
        raise
    except (WorkdirError, OSError) as error:
        return Outcome("failed", _one_line(str(error)))
    except Exception as error:  # whatever it is, the other points do not need this one
        write_atomic(job.workdir / "error.txt", traceback.format_exc())
        return Outcome("failed", _one_line(f"{type(error).__name__}: {error}"))
    return Outcome("done")


def _one_line(text: str) -> str:
    return textwrap.shorten(text, 400, placeholder=" ...")


def note(job: Run, points: list[Point], outcomes: list[Outcome]) -> None:
    """Write sweep.json."""
    paths = points[0].settings
    document = {
        "format": FORMAT,
        "experiment": job.experiment.name,
        "scale": job.scale,
        "set": list(job.changed),
        "axes": {path: list(dict.fromkeys(point.settings[path] for point in points)) for path in paths},
        "points": [
            {"settings": point.settings, "folder": folder(point.settings), **outcome._asdict()}
            for point, outcome in zip(points, outcomes, strict=True)
        ],
    }
    write_atomic(job.workdir / "sweep.json", json.dumps(document, indent=1) + "\n")


def summary(points: list[Point], records: list[dict | None]) -> str:
    """One line per arm of every point that has a record, in columns, in percent; then what the marks mean."""
    lines = [[*points[0].settings, "arm", *(f"{LABELS[name]} %" for name in MAIN)]]
    for point, record in zip(points, records, strict=True):
        for arm in (record or {"arms": {}})["arms"]:
            lines.append([*point.settings.values(), arm, *(marked(record, arm, name) for name in MAIN)])
    table = columns(lines)
    return "\n".join([table, *legend(table)])
