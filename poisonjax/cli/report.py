"""Write the results of many runs as a site or as tables: poisonjax report site --records results --out site"""


def main(words: list[str], prog: str) -> int:
    """Write a report; return the exit status: 0 done; 1 the machine failed; 2 bad input."""
    from poisonjax.reports.__main__ import main as report

    return report(words, prog)
