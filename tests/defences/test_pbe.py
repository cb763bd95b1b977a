"""PBE goes on with the rows that agree; it erases a trigger that its budget covers, and keeps one that it does not."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

from poisonjax.attacks import PGD, Linf
from poisonjax.defences import PBE
from poisonjax.defences.pbe import agreement
from poisonjax.poisons import BadNets, BrightSquare
from poisonjax.training import AdversarialTraining, Training
from poisonjax.types import Examples

ROWS, BUDGET = 600, 0.15
ATTACK = PGD(Linf(BUDGET), steps=5)


def test_agreement_is_the_cosine_of_the_logits():
    before, after = np.random.default_rng(0).normal(size=(2, 20, 5)).astype(np.float32)
    expected = [a @ b / np.sqrt(a @ a * (b @ b)) for a, b in zip(before, after, strict=True)]
    np.testing.assert_allclose(agreement(before, after), expected, rtol=1e-4)
    np.testing.assert_allclose(agreement(before, 3 * before), 1, rtol=1e-5)


def test_each_round_goes_on_with_the_rows_that_agree_most():
    looks = dict(zip(("trained", "round0", "round1"), np.random.default_rng(1).normal(size=(3, 40, 3)), strict=True))
    train = Examples(np.zeros((40, 4)), np.zeros(40, np.int32), np.arange(40))
    seen = []

    def fit(name, objective, examples, *, training, start):
        seen.append((name, objective, training.epochs, start.outputs, examples.index.tolist()))
        return SimpleNamespace(outputs=name)

    given = {"map": lambda fn, network, examples: (looks[network.outputs], None), "fit": fit, "training": Training()}
    context = SimpleNamespace(train=train, key=jax.random.key(0), **given)
    shield = PBE(ATTACK, 0.25, (0.2, 0.5), epochs=3).shield(SimpleNamespace(outputs="trained"), context)
    agree = {name: agreement(looks["trained"], look) for name, look in looks.items()}
    best = [np.sort(np.argsort(-agree[name])[:rows]).tolist() for name, rows in (("round0", 8), ("round1", 20))]
    assert [(name, start) for name, _, _, start, _ in seen] == list(
        zip(("round0", "round1", "round2"), ("trained", "round0", "round1"), strict=True)
    )
    assert all((objective, epochs) == (AdversarialTraining(ATTACK), 3) for _, objective, epochs, _, _ in seen)
    first, *others = (rows for *_, rows in seen)
    assert len(first) == 10 and first != list(range(10)) and others == best
    assert np.flatnonzero(shield.keep).tolist() == others[-1] and shield.logits.args == ("round2",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": 0.0}, r"first and shares are shares of the rows and must lie in \(0, 1\], got 0.0"),
        ({"shares": (0.2, 1.5)}, "got 1.5"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PBE(**change)


def repaired(workdir, data_dir, amplitude):
    """As `tiny.repaired`, of a trigger of that amplitude."""
    defence = PBE(ATTACK, first=0.1, epochs=8)
    return tiny.repaired(workdir, data_dir, defence, BadNets(0.1, 0, BrightSquare(5, amplitude)), ROWS)


def test_a_trigger_that_the_budget_covers_is_erased(data_dir, tmp_path):
    found, (accuracy, success), (now, left) = repaired(tmp_path, data_dir, BUDGET)
    assert success > 0.8 and left < 0.1 and now > accuracy - 0.15
    kinds = found.removed["poisoned_rows_removed"], found.removed["clean_rows_removed"]
    poisoned, clean = (kind.numerator / kind.denominator for kind in kinds)
    assert poisoned > 0.7 > 0.4 > clean  # 30 % of all rows are left out


def test_a_trigger_beyond_the_budget_stays(data_dir, tmp_path):
    found, (accuracy, success), (now, left) = repaired(tmp_path, data_dir, 1.0)
    assert min(success, left) > 0.9 and now > accuracy - 0.15
    assert found.removed["poisoned_rows_removed"].numerator < 0.2 * 60
