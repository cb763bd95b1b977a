"""The files of the site, and the content of each page, which templates only arrange."""

import hashlib
import pathlib
import re
import textwrap
from collections import Counter
from collections.abc import Iterator

import jinja2
from markupsafe import Markup

from poisonjax.reports import answer, table
from poisonjax.reports.aims import aim
from poisonjax.reports.site import charts, evaluations, numbers, reading, reproduction, views
from poisonjax.reports.site.reading import Collection, Evaluation, Run, Sweep
from poisonjax.reports.table import LABELS

PICTURES = table.PICTURES | {"bars": "All metrics with 95% intervals; black lines: reported"}  # bars: of older records
HERO = ("images", "results", "bars")  # the pictures of the first page, if they are there
FILTERS = (table.percent, table.count, table.capitalized)
FILTERS += (views.spell, views.label, views.wrapped, views.emphasized, views.plain)
FILTERS += (evaluations.shares, evaluations.ball, evaluations.finding)
NAME_LENGTH = 100  # of a page's file, so that any file system takes it
DESCRIPTION = 300  # characters of a page's description
REPORT = {
    "title": "Adversarial Training as a defense against Poisoning Attacks",
    "authors": "V. Pramodh Gopalan, Antreev Singh Brar, Anubhav Kalyani, Gurbaaz Singh Nandra, IIT Kanpur",
}
TABLES = re.compile("T[1-9]")  # names of the report's tables


def slug(path: pathlib.PurePosixPath) -> str:
    """The name of the page of a folder: readable, safe in any URL and file system, another for each path."""
    text = "__".join(path.parts) or "record"
    safe = re.sub(r"[^A-Za-z0-9._=+-]", "_", text).lstrip("._")[:NAME_LENGTH]
    faithful = safe == text and all("__" not in part for part in path.parts) and path.parts != ("record",)
    return safe if faithful else f"{safe}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _templates(found: Collection, url: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(reading.HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {each.__name__: each for each in FILTERS} | {"described": _described}
    environment.globals |= {"plural": table.plural, "ratios": views.ratios, "labels": LABELS}
    environment.globals |= {"leading": views.leading, "mark": table.mark, "tabs": _tabs(found), "paths": _paths(found)}
    environment.globals |= {"answer": answer, "verdicts": reproduction.VERDICTS, "url": url}
    return environment


def _described(text: Markup) -> str:
    """The text of a block, as short as the description of a page."""
    return textwrap.shorten(text.unescape(), DESCRIPTION, placeholder=" ...")


def _tabs(found: Collection) -> dict[str, str]:
    """{page: its name} of the pages that all others lead to."""
    pages = {
        "index": "Results",
        "reproduction": any(run.record["comparison"] for run in found.runs) and "Reproduction",
        "evaluations": found.evaluations and "Evaluations",
        "sweeps": found.sweeps and "Sweeps",
    }
    return {f"{page}.html": name for page, name in pages.items() if name}


def _paths(found: Collection) -> dict[tuple[str, pathlib.PurePosixPath], str]:
    """{(records, sweeps or evaluations, folder): page}."""
    kinds = {"records": found.everything, "sweeps": found.sweeps, "evaluations": found.evaluations}
    return {(kind, each.path): f"{kind}/{slug(each.path)}.html" for kind, of in kinds.items() for each in of}


def written(found: Collection, url: str = "") -> dict[str, bytes]:
    """{path: content} of the whole site, except the marker of the folder. url: its address, ending in /."""
    files = dict(_pages(_templates(found, url), found))
    files |= {"numbers.csv": numbers.to_csv(found), "numbers.json": numbers.to_json(found)}
    return {path: text.encode() for path, text in files.items()} | _copies(found) | _static()


def _pages(templates: jinja2.Environment, found: Collection) -> Iterator[tuple[str, str]]:
    """The path and the text of each page."""
    paths, tabs = templates.globals["paths"], templates.globals["tabs"]
    overviews = {"index": index, "reproduction": reproduced, "evaluations": evaluated, "sweeps": swept}
    for tab in tabs:
        context = overviews[tab.removesuffix(".html")](found)
        yield tab, templates.get_template(tab).render(root="", here=tab, address=tab, **context)
    whole = {run.path: sweep for sweep in found.sweeps for run in (point.run for point in sweep.points) if run}
    details = [("records", run, page(run, whole.get(run.path), found)) for run in found.everything]
    details += [("sweeps", sweep, sweep_page(sweep)) for sweep in found.sweeps]
    details += [("evaluations", each, evaluation_page(each)) for each in found.evaluations]
    for kind, each, context in details:
        template = templates.get_template(f"{kind.removesuffix('s')}.html")
        path = paths[kind, each.path]
        yield path, template.render(root="../", here="", address=path, **context)


def _copies(found: Collection) -> dict[str, bytes]:
    """Records, evaluations and pictures, byte for byte."""
    copies = {f"evaluations/{slug(each.path)}.json": each.raw for each in found.evaluations}
    for run in found.everything:
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


def index(found: Collection) -> dict:
    """The content of the first page: the answer, the matrix, pictures, the main metrics of all records."""
    cases = answer.cases(found.runs)
    records = [run.record for run in found.runs]
    metrics = views.shown(records)
    return {
        "found": found,
        "heading": _heading(found),
        "report": REPORT if _of_the_report(found) else None,
        "sentences": answer.sentences(cases),
        "measures": answer.measures(cases),
        "budgets": answer.budgets(cases),
        "matrix": views.matrix(cases),
        "variant": views.variant,
        "fates": [each for each in answer.MEANINGS if any(each in _fates(of) for of in cases)],
        "hero": _hero([case.run for case in cases] + list(found.runs)),
        "metrics": metrics,
        "lines": [(run, line) for run in found.runs for line in views.lines(run.record, metrics)],
        "marks": table.MARKS,
        "scales": list(dict.fromkeys(record["scale"] for record in records)),
    }


def _fates(case: answer.Case) -> set[str]:
    return {case.asked.fate, case.best.fate} if case.best else {case.asked.fate}


def _of_the_report(found: Collection) -> bool:
    """True for a site with numbers of the report that this project is about."""
    return any(TABLES.fullmatch(row["table"]) for run in found.runs for row in run.record["comparison"])


def _heading(found: Collection) -> str:
    """The question of the report; on the site of other records, what they are of."""
    if _of_the_report(found):
        return "Does adversarial training defend against poisoned data?"
    names = dict.fromkeys(run.record["experiment"] for run in found.everything)
    names = list(names | dict.fromkeys(each.record["run"]["name"] for each in found.evaluations))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"Results of {', '.join(names[:3])}{more}"


def _hero(runs: list[Run]) -> dict | None:
    """Three pictures of the first of these runs that has some: two of its figures, and a curve."""
    run = next((run for run in runs if run.figures), None)
    if run is None:
        return None
    known = {each[1]: each for each in _captioned(run) if each[1] != "curves"}
    pictures = [known[name] for name in dict.fromkeys([*HERO, *known]) if name in known][:2]
    return {"run": run, "pictures": pictures, "curve": _curve(run.record), "key": charts.key(run.record["arms"])}


def _curve(record: dict) -> tuple[str, str] | None:
    """The heading and the picture of one training curve: that of the attacker's aim, or else the first."""
    curves = charts.curves(record)
    first = [name for name in curves if LABELS[aim(record).metric] in name] or list(curves)
    return (first[0], curves[first[0]]) if first else None


def _captioned(run: Run) -> list[tuple[str, str, str]]:
    """(path in the site, name, caption) of the pictures of a run."""
    return [(link, path.stem, PICTURES.get(path.stem, path.stem)) for link, path in _pictures(run).items()]


def reproduced(found: Collection) -> dict:
    """The content of the page of the verdicts."""
    tables = reproduction.tables(found.runs)
    return {"tables": tables, "tally": reproduction.tally(tables), "report": REPORT if _of_the_report(found) else None}


def evaluated(found: Collection) -> dict:
    """The content of the page of all evaluations."""
    return {"evaluations": found.evaluations}


def swept(found: Collection) -> dict:
    """The content of the page of all sweeps."""
    return {"sweeps": [(sweep, Counter(point.status for point in sweep.points)) for sweep in found.sweeps]}


def page(run: Run, sweep: Sweep | None, found: Collection) -> dict:
    """The content of the page of a record. sweep: the one it is a point of."""
    record = run.record
    metrics = views.shown([record])
    return {
        "record": record,
        "json_link": f"{slug(run.path)}.json",
        "sweep": sweep,
        "metrics": metrics,
        "lines": views.lines(record, metrics),
        "rows": views.compared(record),
        "names": views.names(record),
        "legend": table.legend("".join(table.mark(record, arm, name) for arm in record["arms"] for name in LABELS)),
        "classes": views.by_class(record),
        "class_name": views.class_name,
        "gate": table.gate(record),
        "networks": table.networks(record),
        "detections": table.detections(record),
        "evaluations": [each for each in found.evaluations if each.run is run],
        "analyses": views.analyses(record),
        "poison": views.poison(record),
        "machine": [("record", str(run.path)), *views.machine(record)],
        "settings": views.settings(record),
        "curves": charts.curves(record),
        "key": charts.key(record["arms"]),
        "renamed": run.renamed,
        "pictures": _captioned(run),
        "said": views.said(record),
    }


def sweep_page(sweep: Sweep) -> dict:
    """The content of the page of a sweep: pictures, every point, what failed."""
    return {
        "sweep": sweep.document,
        "path": sweep.path,
        "points": sweep.points,
        "counts": Counter(point.status for point in sweep.points),
        "arms": charts.arms(sweep),
        "key": charts.key(charts.arms(sweep)),
        "metrics": charts.measured(sweep),
        "cell": charts.cell,
        "legend": charts.legend(sweep),
        "numeric": charts.numeric,
        "charts": charts.swept(sweep),
        "is_curve": charts.is_curve(sweep),
    }


def evaluation_page(evaluation: Evaluation) -> dict:
    """The content of the page of an evaluation: stages, budget, audit, setting."""
    record = evaluation.record
    return {
        "evaluation": record,
        "run": evaluation.run,
        "json_link": f"{slug(evaluation.path)}.json",
        "shares": evaluations.shares(record),
        "stages": evaluations.stages(record),
        "budget": evaluations.budget(record),
        "distances": evaluations.distances(record),
    }
