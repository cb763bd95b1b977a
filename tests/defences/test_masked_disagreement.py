"""Masked disagreement: doubt is what another class gets behind a mask; a trigger that one hides gives itself away."""

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mnist_badnets
from poisonjax.data.subsets import Stratified
from poisonjax.defences import MaskedDisagreement, Selection, SpectralSignatures, Union
from poisonjax.defences.masked_disagreement import doubts
from poisonjax.defences.patch_cleanser import mask_set
from poisonjax.evaluation.victim import function_victim
from poisonjax.experiment import Arm
from poisonjax.overrides import override
from poisonjax.poisons import BrightSquare, Corners
from poisonjax.runs import runner, training
from poisonjax.runs.job import Run
from poisonjax.training import Training
from poisonjax.types import Examples

LABELS = np.repeat(np.arange(2), 10).astype(np.int32)


def bright(x):
    """Logits of two classes: class 1 if a corner is bright, else class 0; probabilities of .88 and .12."""
    seen = x[:, -2:, -2:].mean((1, 2, 3))
    return jnp.stack([2 - 4 * (seen > 0.1), 2 * jnp.zeros(len(x))], -1) * 1.0


def rows(images):
    return Examples(images, LABELS, np.arange(len(LABELS), dtype=np.int32))


def test_doubt_is_the_highest_probability_of_another_class_behind_a_mask():
    """A plain reading: every mask on every row, in NumPy."""
    images = np.zeros((20, 8, 8, 1), np.uint8)
    images[5:, -2:, -2:] = 255
    found = np.asarray(doubts(function_victim(bright), rows(images), 2, 2))
    expected = np.zeros(20)
    for mask in mask_set((8, 8, 1), 2, 2):
        logits = np.asarray(bright(jnp.asarray(images / 255.0 * mask)))
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected = np.maximum(expected, shares[np.arange(20), 1 - LABELS])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found[10:] > 0.5).all() and (found[:5] < 0.5).all()


def stub(looks):
    """A context whose judge of each round doubts the rows as given."""
    given, seen = iter(looks), []

    def fit(name, objective, examples, **settings):
        seen.append((name, len(examples.label)))
        return name

    context = SimpleNamespace(
        train=rows(np.zeros((20, 8, 8, 1), np.uint8)),
        training=Training(),
        fit=fit,
        map=lambda fn, judge, examples, *settings: np.asarray(next(given)),
    )
    return context, seen


def test_each_round_learns_from_what_is_left_and_looks_at_all_rows_again():
    first, second = np.zeros(20), np.zeros(20)
    first[[0, 1, 15]], second[[0, 16]] = 0.9, 0.8
    context, seen = stub([first, second])
    kept, doubt = MaskedDisagreement(rounds=2).select(context)
    assert seen == [("judge0", 20), ("judge1", 17)]
    assert sorted({*range(20)} - {*kept.index.tolist()}) == [0, 16]  # 1 and 15 came back
    np.testing.assert_array_equal(doubt, second)


def test_a_class_that_is_all_in_doubt_is_refused():
    context, _ = stub([np.where(LABELS == 1, 0.9, 0.0)])
    with pytest.raises(ValueError, match=r"every row of class 1 is in doubt at confidence 0\.5"):
        MaskedDisagreement(rounds=1).select(context)


def test_a_union_drops_what_any_filter_drops_under_names_of_their_own():
    first, second = np.linspace(0, 0.4, 20), np.linspace(0.4, 0, 20)
    first[3], second[12] = 0.9, 0.9
    context, seen = stub([first, second])
    context._replace = lambda fit: SimpleNamespace(**{**vars(context), "fit": fit})
    chosen = Union((MaskedDisagreement(rounds=1), MaskedDisagreement(rounds=1))).select(context)
    assert isinstance(chosen, Selection) and [name for name, _ in seen] == ["filter0_judge0", "filter1_judge0"]
    assert sorted({*range(20)} - {*chosen.examples.index.tolist()}) == [3, 12]
    assert set(np.argsort(chosen.suspicion)[-2:]) <= {3, 12, 0, 19} and chosen.suspicion[[3, 12]].min() == 1


def removed(data_dir, workdir, trigger):
    """The poisoned and the clean rows that are removed, as shares."""
    plan = mnist_badnets.experiment("smoke")
    poison = dataclasses.replace(plan.poison, rate=0.1, target=0, trigger=trigger)
    arm = Arm("masked", defence=MaskedDisagreement(5, masks=4, rounds=1))
    data = dataclasses.replace(plan.data, train=Stratified(1000))
    plan = dataclasses.replace(plan, arms=(Arm("standard"), arm), reported=(), poison=poison, data=data)
    plan = override(override(plan, "train.epochs=8"), "model.hidden=32")
    job = Run(plan, runner.load(plan, data_dir), workdir, "smoke")
    return {name: of.value for name, of in training.defended(job, 0, arm, runner.poison_data(job, 0)).removed.items()}


def test_a_trigger_that_a_mask_hides_is_found_and_one_in_four_corners_is_not(data_dir, tmp_path):
    """The claim, and what it falls to."""
    square = removed(data_dir, tmp_path / "square", BrightSquare(4))
    assert square["poisoned_rows_removed"] > 0.6 and square["clean_rows_removed"] < 0.45
    corners = removed(data_dir, tmp_path / "corners", Corners())
    assert corners["poisoned_rows_removed"] < 0.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: MaskedDisagreement(size=0), "size is the side of a patch"),
        (lambda: MaskedDisagreement(confidence=1.0), r"confidence is a probability and must lie in \[0, 1\), got 1.0"),
        (lambda: MaskedDisagreement(rounds=0), "rounds must be at least 1"),
        (lambda: MaskedDisagreement(epochs=0), "epochs must be at least 1"),
        (lambda: Union(()), "filters must hold at least one defence"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()


def test_a_union_needs_clean_rows_if_one_filter_does():
    class Needy(SpectralSignatures):
        needs_clean = True

    assert Union((SpectralSignatures(), Needy())).needs_clean and not Union((SpectralSignatures(),)).needs_clean
