"""All records on one page: the tables of README.md and results/README.md, made from records alone."""

import pathlib

from poisonjax.reports.site.reading import collect
from poisonjax.reports.table import COMPARISON, LABELS, MAIN, compared, percent, rows, spread

BEGIN, END = "<!-- results: made by `python -m poisonjax.reports` -->", "<!-- /results -->"


def load(folder: pathlib.Path) -> list[tuple[pathlib.Path, dict]]:
    """Every record below a folder but the points of sweeps, with its path relative to it, the paper scale first.

    ValueError naming the file that is damaged or of a newer format.
    """
    return [(pathlib.Path(run.path / "record.json"), run.record) for run in collect(folder).runs]


def _cell(record: dict, arm: str, name: str) -> str:
    metric = record["arms"][arm][name]
    reported = record["reported"].get(arm, {}).get(name)
    return spread(metric) + ("" if reported is None else f" (reported {percent(reported)})")


def _setting(record: dict) -> str:
    """What was run, in a few words."""
    seeds, changed = len(record["seeds"]), ", ".join(record["changed"])
    return f"{record['scale']}, {seeds} seed{'s' if seeds > 1 else ''}" + (f", {changed}" if changed else "")


def short(found: list[tuple[pathlib.Path, dict]], prefix: str) -> str:
    """One row an arm; what each record finds below. prefix: from the page to the folder of the records."""
    body = [
        [f"[{record['experiment']}]({prefix}{path.parent}/report.md)", _setting(record), arm]
        + [_cell(record, arm, name) for name in MAIN]
        for path, record in found
        for arm in record["arms"]
    ]
    lines = [f"- **{record['experiment']}** ({_setting(record)}): {record['finding']}" for _, record in found]
    return (
        rows(["experiment", "scale", "arm", *(f"{LABELS[name]} %" for name in MAIN)], body) + "\n\n" + "\n".join(lines)
    )


def _nothing(record: dict) -> list[str]:
    """The cells of an experiment of which the report prints no number."""
    return [record["paper_table"], *["–"] * (len(COMPARISON) - 2), "the report prints no number of it"]


def full(found: list[tuple[pathlib.Path, dict]]) -> str:
    """Every reported number beside ours, with verdict."""
    body = [
        [f"[{record['experiment']}]({path.parent}/report.md)", _setting(record), *cells]
        for path, record in found
        for cells in [compared(row) for row in record["comparison"]] or [_nothing(record)]
    ]
    return rows(["experiment", "scale", *COMPARISON], body)


def renewed(page: str, text: str) -> str:
    """The page with what stands between the two marks replaced. ValueError if it lacks them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def pages(root: pathlib.Path) -> dict[pathlib.Path, str]:
    """README.md and results/README.md of a checkout, as they should be."""
    found = load(root / "results")
    texts = {root / "README.md": short(found, "results/"), root / "results" / "README.md": full(found)}
    return {path: renewed(path.read_text(), text) for path, text in texts.items()}
