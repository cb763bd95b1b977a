"""What the documents say of the attacks is what the code does."""

import inspect
import pathlib
import re

import pytest

from poisonjax import attacks

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "attacks.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if re.match(r"\| .*`\w+\(.*\| \d+ \| \d+ \|$", line)]
CALLS = {cells[1].strip(" `"): tuple(int(cell) for cell in cells[-2:]) for cells in ROWS}


@pytest.mark.parametrize("call", CALLS)
def test_the_cost_of_an_attack_is_what_its_row_says(call):
    assert tuple(eval(call, {}, vars(attacks)).cost) == CALLS[call]


def test_every_attack_has_a_row():
    shown = {type(eval(call, {}, vars(attacks))) for call in CALLS}
    members = {member for member in vars(attacks).values() if inspect.isclass(member)}
    assert shown == {kind for kind in members if issubclass(kind, attacks.Attack) and not inspect.isabstract(kind)}
    assert all(f"`{name}(" in PAGE for name in ("fgsm", "bim", "mi_fgsm", "bpda", "eot", "transfer"))
