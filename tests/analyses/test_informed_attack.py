"""Who knows a defence gets past detectors and saturated logits; who does not is stopped by them."""

import contextlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from poisonjax.analyses import InformedAttack
from poisonjax.analyses.informed_attack import Withstood
from poisonjax.attacks import PGD, Linf
from poisonjax.evaluation.analysis import Subject
from poisonjax.evaluation.victim import function_victim
from poisonjax.poisons import NoPoison
from poisonjax.runtime import distributed
from poisonjax.types import Examples

ATTACK = PGD(Linf(0.3), step=0.03, steps=20, random_start=False)
ROWS = 12


def brightness(scale, x):
    """Two classes, by the brightness of the first pixel, and a little by that of the second."""
    seen = x[:, 0, 0, 0] - 0.5 + 0.01 * (x[:, 0, 1, 0] - 0.5)
    return jnp.stack([-seen, seen], -1) * scale


def unusual(x):
    """A second pixel that is not grey."""
    return jnp.abs(x[:, 0, 1, 0] - 0.5)


def looked_at(victim, analysis):
    """The shares that withstand, of images of which the first pixel is dark or bright and the second grey."""
    images = np.full((ROWS, 1, 2, 1), 128, np.uint8)
    images[:, 0, 0, 0] = np.where(np.arange(ROWS) % 2, 179, 76)  # the attack can turn every one
    examples = Examples(images, np.arange(ROWS, dtype=np.int32) % 2, np.arange(ROWS, dtype=np.int32))

    @contextlib.contextmanager
    def progress(name, images):
        yield lambda rows: None

    shared = distributed.replicate((victim, jax.random.key(0)))
    subject = Subject(shared[0], examples, NoPoison(), ATTACK, shared[1], ROWS, 0, None, progress)
    arrays = analysis.collect(subject)
    return {name: hits / of for name, (hits, of) in analysis.measure(arrays, subject).items()}


PLAIN = function_victim(Partial(brightness, 1.0))


@pytest.mark.parametrize(
    ("victim", "unaware"),
    [
        (PLAIN, 0),
        (function_victim(Partial(brightness, 1e5)), 1),
        (PLAIN._replace(suspicion=Partial(unusual), threshold=0.1), 1),
    ],
    ids=["undefended", "saturated", "detector"],
)
def test_who_knows_the_defence_gets_past_it(victim, unaware):
    found = looked_at(victim, InformedAttack(temperatures=(1.0, 1e5), batch=ROWS))
    assert found == {"clean": 1, "unaware": unaware, "aware": 0}


def test_what_no_attack_within_the_budget_changes_is_withstood():
    far = InformedAttack(PGD(Linf(0.1), step=0.05, steps=6), batch=5)  # batches need not divide the images
    assert looked_at(PLAIN, far) == {"clean": 1, "unaware": 1, "aware": 1}


def test_each_temperature_counts():
    saturated = function_victim(Partial(brightness, 1e5))
    assert looked_at(saturated, InformedAttack(temperatures=(1.0,), batch=ROWS))["aware"] == 1


def test_the_table_has_a_row_for_each_arm_over_all_seeds():
    analysis, subject = InformedAttack(images=4), SimpleNamespace(seed=0)
    arrays = [Withstood(np.ones(4, bool), np.arange(4) > 0, np.arange(4) > most) for most in (1, 2)]
    summary = analysis.summary([analysis.measure(of, subject) for of in arrays])
    [table] = analysis.tables({"arm": summary})
    assert table.rows[0][:2] == ["arm", "100.00 ± 0.00"] and table.rows[0][3].startswith("37.50 ±")
    assert "The first 4 test images" in table.notes[0] and "by 1 or 100" in table.notes[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperatures": ()}, "temperatures must be at least one number above 0"),
        ({"temperatures": (1.0, 0.0)}, "temperatures must be at least one number above 0"),
        ({"images": 0}, "images must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        InformedAttack(**settings)
