"""Records, sweeps and evaluations below a folder, in the current format; damaged ones are refused."""

import functools
import json
import pathlib
import textwrap
from typing import NamedTuple

import jsonschema

from poisonjax.reports.upgrade import FORMAT, upgraded, upgraded_evaluation
from poisonjax.scales import rank

HERE = pathlib.Path(__file__).parent
FORMATS = {"record": FORMAT, "sweep": 1, "evaluation": 2}  # the newest that are read
COUNTED = ("clean", "robust", "attack_success_rate")  # of an evaluation: [hits, images]


class Run(NamedTuple):
    """A record, upgraded. path: its folder, relative to that of all records. raw: the bytes of its file, as they are.

    figures: the pictures beside it, by name. renamed: {name in its files: name now} of arms that have another one.
    """

    path: pathlib.PurePosixPath
    record: dict
    raw: bytes
    figures: tuple[pathlib.Path, ...]
    renamed: dict[str, str]


class Point(NamedTuple):
    """One setting of a sweep; run is None unless status is done."""

    settings: dict[str, str]
    status: str
    error: str | None
    run: Run | None


class Sweep(NamedTuple):
    """A sweep and its points. path: its folder, relative to that of all records."""

    path: pathlib.PurePosixPath
    document: dict
    points: tuple[Point, ...]


class Evaluation(NamedTuple):
    """One network under one attack, upgraded. path: its folder, relative to that of all records.

    raw: the bytes of its file, as they are. run: the record of its network; None if that is not there.
    """

    path: pathlib.PurePosixPath
    record: dict
    raw: bytes
    run: Run | None


class Collection(NamedTuple):
    """Everything there is to show, the largest scale first, then by path. runs: without the points of sweeps."""

    runs: tuple[Run, ...]
    sweeps: tuple[Sweep, ...]
    evaluations: tuple[Evaluation, ...]

    @property
    def everything(self) -> tuple[Run, ...]:
        """All runs, points of sweeps last."""
        return (*self.runs, *(point.run for sweep in self.sweeps for point in sweep.points if point.run))


def collect(folder: pathlib.Path) -> Collection:
    """All that is below a folder. ValueError naming the file that is damaged or of a newer format."""
    documents = {path: _document(path, "sweep")[0] for path in sorted(folder.rglob("sweep.json"))}
    of_points = {_point_folder(path, point) for path, document in documents.items() for point in document["points"]}
    runs = [_run(path, folder) for path in sorted(folder.rglob("record.json")) if path.parent not in of_points]
    sweeps = [_sweep(path, document, folder) for path, document in documents.items()]
    found = Collection(
        tuple(sorted(runs, key=lambda run: (rank(run.record["scale"]), run.path.as_posix()))),
        tuple(sorted(sweeps, key=lambda sweep: (rank(sweep.document["scale"]), sweep.path.as_posix()))),
        (),
    )
    evaluations = [_evaluation(path, folder, found) for path in folder.rglob("evaluation.json")]
    return found._replace(evaluations=tuple(sorted(evaluations, key=_order)))


def _order(evaluation: Evaluation) -> tuple:
    return rank(evaluation.record["run"]["scale"]), evaluation.path.as_posix()


@functools.cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((HERE / f"{schema}.schema.json").read_text()))


def _not_a_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _document(path: pathlib.Path, kind: str) -> tuple[dict, bytes]:
    """A JSON file in the current format of its kind, and the bytes of the file."""
    try:
        raw = path.read_bytes()
        document = json.loads(raw, parse_constant=_not_a_number)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {textwrap.shorten(str(error), 150)}") from None
    version, newest = document.get("format") if isinstance(document, dict) else None, FORMATS[kind]
    if isinstance(version, int) and version > newest:
        raise ValueError(
            f"{path} is of format {version}, this version of poisonjax reads up to {newest}: "
            "use the version that wrote it"
        )
    if kind == "record" and version == 1:
        _check(path, document, "record.v1")
        document = upgraded(document)
    _check(path, document, kind)
    return upgraded_evaluation(document) if kind == "evaluation" else document, raw


def _check(path: pathlib.Path, document: dict, schema: str) -> None:
    """ValueError unless a document fits a schema."""
    if wrong := jsonschema.exceptions.best_match(_validator(schema).iter_errors(document)):
        raise ValueError(f"{path} is damaged: at {wrong.json_path}: {textwrap.shorten(wrong.message, 150)}")


def _run(path: pathlib.Path, folder: pathlib.Path) -> Run:
    record, raw = _document(path, "record")
    if wrong := _inconsistent(record):
        raise ValueError(f"{path} is damaged: {wrong}")
    figures = tuple(sorted((path.parent / "figures").glob("*.png")))
    return Run(_place(path, folder), record, raw, figures, _renamed(raw, record))


def _place(path: pathlib.Path, folder: pathlib.Path) -> pathlib.PurePosixPath:
    """The folder of a file, relative to that of all records."""
    return pathlib.PurePosixPath(path.parent.relative_to(folder).as_posix())


def _evaluation(path: pathlib.Path, folder: pathlib.Path, found: Collection) -> Evaluation:
    record, raw = _document(path, "evaluation")
    if beyond := [name for name in COUNTED if record[name] and record[name][0] > record[name][1]]:
        raise ValueError(f"{path} is damaged: {beyond[0]} counts more images than there are")
    place = _place(path, folder)
    return Evaluation(place, record, raw, next((run for run in found.everything if _of(record, place, run)), None))


def _of(evaluation: dict, place: pathlib.PurePosixPath, run: Run) -> bool:
    """True if a run has the network of an evaluation: it holds its folder, or is of the same settings and data."""
    same = {**run.record["config"], "scale": run.record["scale"]} == evaluation["run"]
    data = run.record["dataset"]["sha256"] == evaluation["dataset"]["sha256"]
    return (run.path in place.parents or (same and data)) and evaluation["arm"] in run.record["arms"]


def _renamed(raw: bytes, record: dict) -> dict[str, str]:
    pairs = zip(json.loads(raw)["arms"], record["arms"], strict=True)
    return {old: new for old, new in pairs if old != new}


def metrics(arm: dict) -> dict[str, dict]:
    """The metrics among the fields of an arm."""
    return {name: field for name, field in arm.items() if isinstance(field, dict) and "numerator" in field}


def _inconsistent(record: dict) -> str | None:
    """The first violation that a schema cannot express: of seeds, tables or comparisons; None for none."""
    seeds = len(record["seeds"])
    if len(record["poison"]) not in (0, seeds):
        return f"poison is not of {seeds} seeds"
    for name, arm in record["arms"].items():
        if len(arm["history"]) != seeds:
            return f"arms.{name}.history is not of {seeds} seeds"
        for metric, cell in metrics(arm).items():
            parts = [cell[part] for part in ("per_seed", "wilson95", "numerator", "denominator")]
            classes = [*cell["per_class"]["numerator"], *cell["per_class"]["denominator"]]
            if {seeds, *map(len, parts)} != {seeds} or len(classes) != 2 * seeds or len({*map(len, classes)}) != 1:
                return f"arms.{name}.{metric} is not of {seeds} seeds and equally many classes"
    for name, analysis in record["analyses"].items():
        if any(len(row) != len(table["header"]) for table in analysis["tables"] for row in table["rows"]):
            return f"a table of analyses.{name} has rows of another length than its header"
    for row in record["comparison"]:
        if row["metric"] not in metrics(record["arms"].get(row["arm"], {})):
            return f"comparison names {row['arm']}.{row['metric']}, which arms lacks"
    return None


def _point_folder(path: pathlib.Path, point: dict) -> pathlib.Path:
    """The folder of a point of the sweep at path. ValueError for a place outside the folder of the sweep."""
    folder = pathlib.PurePosixPath(point["folder"])
    if folder.is_absolute() or ".." in folder.parts:
        raise ValueError(f"{path} is damaged: the folder {point['folder']!r} is not below it")
    return path.parent / folder


def _sweep(path: pathlib.Path, document: dict, folder: pathlib.Path) -> Sweep:
    points = tuple(_point(path, point, document["axes"], folder) for point in document["points"])
    return Sweep(_place(path, folder), document, points)


def _point(path: pathlib.Path, point: dict, axes: dict[str, list[str]], folder: pathlib.Path) -> Point:
    settings = point["settings"]
    if settings.keys() != axes.keys() or any(value not in axes[axis] for axis, value in settings.items()):
        raise ValueError(f"{path} is damaged: the settings of {point['folder']!r} are not on its axes")
    file = _point_folder(path, point) / "record.json"
    if point["status"] != "done":
        return Point(settings, point["status"], point.get("error"), None)
    if not file.exists():
        raise ValueError(f"{path} says that {point['folder']} is done, but {file} is missing")
    return Point(settings, "done", None, _run(file, folder))
