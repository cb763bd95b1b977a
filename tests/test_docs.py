"""The page on attacks agrees with the code: costs, members, and a link for every paper."""

import inspect
import pathlib
import re

import pytest

from poisonjax import attacks

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "attacks.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if re.match(r"\| .*`\w+\(.*\| \d+ \| \d+ \|$", line)]
CALLS = {cells[1].strip(" `"): tuple(int(cell) for cell in cells[-2:]) for cells in ROWS}
PAPER = r"[A-Z][a-z]+(?: et al\.| & [A-Z][a-z]+),? \d{4}"
LINKS = dict(re.findall(r"\[([^\]]+)\]\((https://(?:arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\S+))\)", PAGE))


@pytest.mark.parametrize("call", CALLS)
def test_cost_in_the_table_is_the_cost_of_the_attack(call):
    assert tuple(eval(call, {}, vars(attacks)).cost) == CALLS[call]


def test_every_attack_has_a_row():
    shown = {type(eval(call, {}, vars(attacks))) for call in CALLS}
    members = {member for member in vars(attacks).values() if inspect.isclass(member)}
    assert shown == {kind for kind in members if issubclass(kind, attacks.Attack) and not inspect.isabstract(kind)}
    assert all(f"`{name}(" in PAGE for name in ("fgsm", "bim", "mi_fgsm", "bpda", "eot", "transfer"))
    kinds = {kind.__name__ for kind in members if issubclass(kind, attacks.Ball | attacks.Loss)} - {"Ball", "Loss"}
    assert all(f"`{name}(eps)`" in PAGE or f"`{name}()`" in PAGE for name in kinds)


def test_every_paper_has_a_link():
    """Those that the page names, and those that the sources of the attacks cite."""
    unlinked = re.findall(PAPER, re.sub(r"\[[^\]]+\]\([^)]+\)", "", PAGE))
    assert not unlinked and len(LINKS) >= 20
    sources = "".join(path.read_text() for path in (ROOT / "poisonjax" / "attacks").glob("*.py"))
    cited = {paper.replace(",", "") for paper in re.findall(PAPER, re.sub(r"\s+", " ", sources))}
    assert cited <= {paper for name in LINKS for paper in re.findall(PAPER, name)}


@pytest.mark.parametrize("name", LINKS)
def test_a_preprint_is_not_newer_than_its_paper(name):
    year, preprint = int(re.search(r"\d{4}", name)[0]), re.search(r"abs/(\d\d)", LINKS[name])
    assert preprint is None or 2000 + int(preprint[1]) <= year <= 2000 + int(preprint[1]) + 2
