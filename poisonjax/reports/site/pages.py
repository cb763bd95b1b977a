"""The files of the site, and the content of each page, which templates only arrange."""

import hashlib
import pathlib
import re
from collections import Counter

import jinja2

from poisonjax.reports import table
from poisonjax.reports.site import charts, numbers, reading, views
from poisonjax.reports.site.reading import Collection, Run, Sweep
from poisonjax.reports.table import LABELS

PICTURES = {
    "images": "What the attacker does",
    "curves": "Training curves",
    "bars": "All metrics with 95% intervals; black lines: reported",
    "capacity": "Accuracy by the number of parameters",
    "tsne": "Activations of clean and triggered test images",
    "example": "Clean image, perturbation and adversarial example, with what each network predicts",
}
FILTERS = (table.percent, table.count, table.capitalized, views.spell, views.label, views.wrapped)
NAME_LENGTH = 100  # of a page's file, so that any file system takes it


def slug(path: pathlib.PurePosixPath) -> str:
    """The name of the page of a folder: readable, safe in any URL and file system, another for each path."""
    text = "__".join(path.parts) or "record"
    safe = re.sub(r"[^A-Za-z0-9._=+-]", "_", text).lstrip("._")[:NAME_LENGTH]
    faithful = safe == text and all("__" not in part for part in path.parts) and path.parts != ("record",)
    return safe if faithful else f"{safe}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(reading.HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {each.__name__: each for each in FILTERS}
    environment.globals |= {"plural": table.plural, "ratios": views.ratios, "labels": LABELS}
    environment.globals |= {"leading": views.leading, "mark": table.mark}
    return environment


def written(found: Collection) -> dict[str, bytes]:
    """{path: content} of the whole site, except the marker of the folder."""
    templates = _templates()
    files = {"index.html": index(templates, found)}
    files |= {"numbers.csv": numbers.to_csv(found), "numbers.json": numbers.to_json(found)}
    for run in found.runs:
        files[f"records/{slug(run.path)}.html"] = page(templates, run, None)
    for sweep in found.sweeps:
        files[f"sweeps/{slug(sweep.path)}.html"] = sweep_page(templates, sweep)
        for point in filter(lambda each: each.run, sweep.points):
            files[f"records/{slug(point.run.path)}.html"] = page(templates, point.run, sweep)
    pages = {path: text.encode() for path, text in files.items()}
    return pages | _copies(found) | _static()


def _copies(found: Collection) -> dict[str, bytes]:
    """Records and pictures, byte for byte."""
    copies = {}
    for run in numbers.everything(found):
        copies[f"records/{slug(run.path)}.json"] = run.raw
        copies |= {link: path.read_bytes() for link, path in _pictures(run).items()}
    return copies


def _static() -> dict[str, bytes]:
    return {f"static/{path.name}": path.read_bytes() for path in (reading.HERE / "static").iterdir()}


def _pictures(run: Run) -> dict[str, pathlib.Path]:
    """{path in the site: file}, those of every run first."""
    order = {name: at for at, name in enumerate(PICTURES)}
    figures = sorted(run.figures, key=lambda path: (order.get(path.stem, len(order)), path.name))
    return {f"figures/{slug(run.path)}/{slug(pathlib.PurePosixPath(path.stem))}.png": path for path in figures}


def index(templates: jinja2.Environment, found: Collection) -> str:
    """The first page: findings, all numbers, sweeps."""
    runs = [{"run": run, "page": f"records/{slug(run.path)}.html"} for run in found.runs]
    rows = [
        (entry, row) for part in (views.compared, views.besides) for entry in runs for row in part(entry["run"].record)
    ]
    sweeps = [
        {"sweep": sweep, "page": f"sweeps/{slug(sweep.path)}.html", "counts": Counter(p.status for p in sweep.points)}
        for sweep in found.sweeps
    ]
    context = {
        "runs": runs,
        "sweeps": sweeps,
        "rows": rows,
        "verdicts": Counter(row.verdict for _, row in rows),
        "marks": table.MARKS,
        "scales": list(dict.fromkeys(run.record["scale"] for run in found.runs)),
    }
    return templates.get_template("index.html").render(root="", **context)


def page(templates: jinja2.Environment, run: Run, sweep: Sweep | None) -> str:
    """The page of a record. sweep: the one it is a point of."""
    record = run.record
    context = {
        "record": record,
        "json_link": f"{slug(run.path)}.json",
        "sweep": sweep and {"page": f"../sweeps/{slug(sweep.path)}.html", "document": sweep.document},
        "rows": views.compared(record),
        "names": views.names(record),
        "legend": table.legend("".join(table.mark(record, arm, name) for arm in record["arms"] for name in LABELS)),
        "classes": views.by_class(record),
        "gate": table.gate(record["attack_gate"]),
        "networks": table.networks(record),
        "detections": table.detections(record),
        "analyses": views.analyses(record),
        "poison": views.poison(record),
        "machine": [("record", str(run.path)), *views.machine(record)],
        "settings": views.settings(record),
        "curves": charts.curves(record),
        "key": charts.key(record["arms"]),
        "renamed": run.renamed,
        "pictures": [(link, path.stem, PICTURES.get(path.stem, path.stem)) for link, path in _pictures(run).items()],
    }
    return templates.get_template("record.html").render(root="../", **context)


def sweep_page(templates: jinja2.Environment, sweep: Sweep) -> str:
    """The page of a sweep: pictures, every point, what failed."""
    context = {
        "sweep": sweep.document,
        "path": sweep.path,
        "points": [(point, point.run and f"../records/{slug(point.run.path)}.html") for point in sweep.points],
        "counts": Counter(point.status for point in sweep.points),
        "arms": charts.arms(sweep),
        "key": charts.key(charts.arms(sweep)),
        "metrics": charts.measured(sweep),
        "cell": charts.cell,
        "legend": charts.legend(sweep),
        "numeric": charts.numeric,
        "charts": charts.swept(sweep),
    }
    return templates.get_template("sweep.html").render(root="../", **context)
