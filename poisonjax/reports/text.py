"""Records as aligned text for a terminal."""

from poisonjax.reports.table import has, legend, marked

HEADS = {  # short enough for five arms in 80 columns
    "clean_accuracy": "clean %",
    "triggered_accuracy": "triggered %",
    "attack_success_rate": "ASR %",
    "robust_accuracy": "PGD %",
    "autoattack_accuracy": "AutoAttack %",
}


def columns(lines: list[list[str]]) -> str:
    """Lines of cells as columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def folded(lines: list[list[str]], width: int | None) -> str:
    """`columns`, or, where they are wider than `width`, each first cell on a line of its own above the others."""
    table = columns(lines)
    if width is None or max(map(len, table.split("\n"))) <= width:
        return table
    head, *rest = columns([line[1:] for line in lines]).split("\n")
    return "\n".join([f"  {head}", *(f"{line[0]}\n  {cells}" for line, cells in zip(lines[1:], rest, strict=True))])


def results(record: dict, width: int | None = None) -> str:
    """The main metrics of every arm, in percent, without those that no arm has; then what heads and marks mean.

    width: columns of the terminal; None for no limit.
    """
    arms = record["arms"]
    shown = [name for name in HEADS if any(has(metrics, name) for metrics in arms.values())]
    body = [[arm, *(marked(record, arm, name) for name in shown)] for arm in arms]
    table = folded([["arm", *(HEADS[name] for name in shown)], *body], width)
    heads = ["ASR: attack success rate; the others: accuracy"] if "attack_success_rate" in shown else []
    return "\n".join([table, *heads, *legend(table)])


def duration(seconds: float) -> str:
    """A duration to be read at a glance, as 40 s, 12 min, 1 h 20 min or 2 d 3 h."""
    seconds, minutes = round(seconds), round(seconds / 60)
    if seconds < 60:
        return f"{max(1, seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, days = minutes // 60, minutes // 1440
    return f"{hours} h {minutes % 60} min" if days == 0 else f"{days} d {hours % 24} h"
