"""Records as aligned text for a terminal."""

from poisonjax.evaluation.metrics import METRICS
from poisonjax.reports.table import MAIN, has, legend, marked


def columns(lines: list[list[str]]) -> str:
    """Lines of cells as columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def results(record: dict) -> str:
    """The main metrics of every arm, in percent, without those that no arm has; then what the marks mean."""
    arms = record["arms"]
    shown = [name for name in MAIN if any(has(metrics, name) for metrics in arms.values())]
    body = [[arm, *(marked(record, arm, name) for name in shown)] for arm in arms]
    table = columns([["arm", *(f"{METRICS[name]} %" for name in shown)], *body])
    return "\n".join([table, *legend(table)])
