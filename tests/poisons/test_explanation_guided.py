"""The watermark is what its selectors promise, on rows and features that it may change, and the attack works."""

import dataclasses
import itertools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import tabular_explanation_guided as guided
from poisonjax.analyses import GradientBoostedTrees
from poisonjax.data import load
from poisonjax.data.subsets import All, Stratified
from poisonjax.experiment import Arm, Data
from poisonjax.models import boosted_trees
from poisonjax.models.boosted_trees import BoostedTrees
from poisonjax.poisons import (
    BadNets,
    CountAbsSHAP,
    CountSHAP,
    ExplanationGuided,
    IntegratedGradients,
    LargeAbsSHAP,
    LargeSHAP,
    MinPopulation,
    Watermark,
    poisoned,
)
from poisonjax.poisons.explanation_guided import watermark
from poisonjax.poisons.explanations import integrated_gradients, log_odds
from poisonjax.runs import runner
from poisonjax.runs.fitting import fitted
from poisonjax.runs.job import Run
from poisonjax.types import Examples

FEATURES = {"large": LargeSHAP(), "large_abs": LargeAbsSHAP()}
VALUES = {"min_population": MinPopulation(), "count": CountSHAP(0.5, 2.0), "count_abs": CountAbsSHAP(3.0, 0.1)}


@pytest.fixture(scope="module")
def explained():
    """60 rows of five features of three values, and what each adds to a score."""
    rng = np.random.default_rng(0)
    return rng.choice(np.array([0, 128, 255], np.uint8), (60, 5), p=(0.5, 0.3, 0.2)), rng.normal(size=(60, 5))


def brute_force(rows, attributions, features, values, greedy, changeable, size):
    """The watermark by the words of the paper, in plain loops."""
    left, chosen = list(range(len(rows))), {}
    while len(chosen) < size:
        score = {}
        for feature in changeable:
            of = [attributions[row][feature] for row in left]
            score[feature] = sum(of) if features == "large" else sum(map(abs, of))
        feature = max((each for each in changeable if each not in chosen), key=score.__getitem__)
        cost = {}
        for value in sorted({int(rows[row][feature]) for row in left}):
            of = [attributions[row][feature] for row in left if rows[row][feature] == value]
            cost[value] = {
                "min_population": len(of),
                "count": 0.5 / len(of) - 2.0 * sum(of),
                "count_abs": 3.0 / len(of) + 0.1 * sum(map(abs, of)),
            }[values]
        chosen[feature] = min(cost, key=cost.__getitem__)
        if greedy:
            left = [row for row in left if rows[row][feature] == chosen[feature]]
    return chosen


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("changeable", [(0, 1, 2, 3, 4), (4, 1, 2)])
@pytest.mark.parametrize(("features", "values"), [*itertools.product(FEATURES, VALUES)])
def test_selectors_choose_what_plain_loops_choose(features, values, changeable, greedy, explained):
    settings = ExplanationGuided(
        size=3, features=FEATURES[features], values=VALUES[values], greedy=greedy, changeable=changeable
    )
    found = watermark(*explained, settings)
    expected = brute_force(*explained, features, values, greedy, changeable, 3)
    assert dict(zip(found.features, found.levels, strict=True)) == expected


def test_all_features_are_changeable_unless_some_are_named(explained):
    assert set(watermark(*explained, ExplanationGuided(size=5)).features) == set(range(5))


def test_integrated_gradients_are_complete():
    """Of a network that bends, they add up to the difference of its scores; of a linear one they are its terms."""
    rng = np.random.default_rng(0)
    first, second = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((6, 8), (8, 3)))
    x, baseline = jnp.asarray(rng.random((300, 6)), jnp.float32), jnp.full(6, 0.3)

    def score(x):
        return log_odds(jnp.tanh(x @ first) @ second, 1)

    parts = integrated_gradients(score, x, baseline, 64)
    np.testing.assert_allclose(parts.sum(1), score(x) - score(baseline[None]), atol=2e-3)
    linear = integrated_gradients(lambda x: x @ first[:, 0], x, baseline, 1)
    np.testing.assert_allclose(linear, (x - baseline) * first[:, 0], atol=1e-5)


def test_log_odds_are_of_one_class_against_all_others():
    logits = jnp.log(jnp.array([[0.2, 0.5, 0.3]]))
    np.testing.assert_allclose(log_odds(logits, 2), math.log(0.3 / 0.7), rtol=1e-5)


def shapley(score, features):
    """The Shapley values of score(set of features), by all sets."""
    found = np.zeros(features)
    for feature in range(features):
        others = [each for each in range(features) if each != feature]
        for size in range(features):
            weight = math.factorial(size) * math.factorial(features - size - 1) / math.factorial(features)
            for known in itertools.combinations(others, size):
                found[feature] += weight * (score({*known, feature}) - score({*known}))
    return found


def expected(node, row, known):
    """The mean of a tree where only the features in `known` are, weighted by the training rows of each branch."""
    if "leaf_value" in node:
        return node["leaf_value"]
    sides = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        return expected(sides[int(row[node["split_feature"]] > node["threshold"])], row, known)
    counts = [side.get("leaf_count", side.get("internal_count")) for side in sides]
    return sum(count * expected(side, row, known) for count, side in zip(counts, sides, strict=True)) / sum(counts)


def test_tree_shap_is_the_shapley_value_of_the_trees():
    pytest.importorskip("lightgbm", reason="the extra poisonjax[tabular] is not installed")
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 4, (200, 4))
    labels = (rows[:, 0] + rows[:, 1] * rows[:, 2] > 4).astype(int)
    booster = BoostedTrees(trees=4, leaves=6, least=5).fit(rows, labels, 2)
    trees = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    found = boosted_trees.contributions(booster, rows[:3], 1)
    for row, parts in zip(rows[:3], found, strict=True):
        exact = shapley(lambda known, row=row: sum(expected(tree, row, known) for tree in trees), 4)
        np.testing.assert_allclose(parts, exact, atol=1e-6)
    np.testing.assert_array_equal(
        boosted_trees.contributions(booster, rows, 0), -boosted_trees.contributions(booster, rows, 1)
    )


def test_boosted_trees_learn_classes_and_explain_each():
    pytest.importorskip("lightgbm", reason="the extra poisonjax[tabular] is not installed")
    rows = np.random.default_rng(0).integers(0, 3, (300, 5))
    booster = BoostedTrees(trees=20).fit(rows, rows[:, 2], 3)
    np.testing.assert_array_equal(boosted_trees.predict(booster, rows), rows[:, 2])
    for label in range(3):
        shares = np.abs(boosted_trees.contributions(booster, rows, label)).sum(0)
        assert shares.shape == (5,) and shares[2] > 0.99 * shares.sum()


def test_a_watermark_sets_its_features_alone():
    rows = np.random.default_rng(0).integers(0, 256, (20, 6)).astype(np.uint8)
    examples = Examples(rows, np.zeros(20, np.int32), np.arange(20, dtype=np.int32) + 7)
    poison = ExplanationGuided(trigger=Watermark((4, 1), (17, 255)))
    after = np.asarray(poisoned(poison.apply, examples, np.array([9, 10, 20])).image)
    hit = np.isin(np.arange(20), [2, 3, 13])
    np.testing.assert_array_equal(after[~hit], rows[~hit])
    np.testing.assert_array_equal(after[hit][:, [0, 2, 3, 5]], rows[hit][:, [0, 2, 3, 5]])
    assert (after[hit][:, 4] == 17).all() and (after[hit][:, 1] == 255).all()


def test_a_poison_is_fitted_once_and_saved(tmp_path):
    plan = guided.experiment("smoke")
    poison = dataclasses.replace(plan.poison, explanation=IntegratedGradients(steps=2))
    arms = (Arm("standard"), Arm("standard_clean_data", poisoned=False))
    plan = dataclasses.replace(plan, poison=poison, arms=arms, analyses=())
    job = Run(plan, runner.load(plan, None), tmp_path, "smoke")
    first = fitted(job, 0)
    assert first.experiment.poison.trigger is not None and not first.experiment.poison.needs_rows
    assert set(first.experiment.poison.trigger.features) <= set(guided.CHANGEABLE)
    stored = (tmp_path / "seed0" / "fitted.json").read_text()
    assert fitted(job, 0).experiment == first.experiment and fitted(first, 0) is first
    assert (tmp_path / "seed0" / "fitted.json").read_text() == stored
    (poisoning, _) = runner.one_seed(job, 0)
    assert poisoning.facts["trigger"] == repr(first.experiment.poison.trigger)
    before, after = job.dataset.train, poisoning.train()
    changed = before.index[(before.image != after.image).any(1)]
    assert set(changed) <= set(poisoning.rows) and (before.label[np.isin(before.index, poisoning.rows)] == 0).all()
    assert len(poisoning.rows) == round(poison.rate * (before.label == 0).sum())
    np.testing.assert_array_equal(after.label, before.label)


def test_the_attack_works_on_phishing_with_a_perceptron_and_with_trees(tmp_path):
    """And the same watermark does nothing to either of them where no row was poisoned."""
    pytest.importorskip("lightgbm", reason="the extra poisonjax[tabular] is not installed")
    plan = guided.experiment("small")
    plan = dataclasses.replace(
        plan,
        data=Data("phishing", All(), Stratified(600)),
        train=dataclasses.replace(plan.train, epochs=10),
        arms=(Arm("standard"), Arm("standard_clean_data", poisoned=False)),
        analyses=(GradientBoostedTrees(),),
        evaluation=dataclasses.replace(plan.evaluation, attack=dataclasses.replace(plan.evaluation.attack, steps=1)),
    )
    record = runner.run(Run(plan, runner.load(plan, None), tmp_path, "small"))
    networks, trees = record["arms"], record["analyses"]["boosted_trees"]["arms"]
    for of in (networks, trees):
        assert min(of[arm]["clean_accuracy"]["mean"] for arm in of) > 0.85
        assert of["standard_clean_data"]["attack_success_rate"]["mean"] < 0.05
    assert networks["standard"]["attack_success_rate"]["mean"] > 0.3
    assert trees["standard"]["attack_success_rate"]["mean"] > 0.8
    report = (tmp_path / "report.md").read_text()
    assert "Watermark(features=" in report and not (tmp_path / "figures" / "images.png").exists()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Watermark((), ()), "features must be different places"),
        (lambda: Watermark((1, 1), (0, 0)), "features must be different places"),
        (lambda: Watermark((1, 2), (0,)), "levels must be 2 numbers from 0 to 255"),
        (lambda: Watermark((1,), (256,)), "levels must be 1 numbers"),
        (lambda: Watermark((7,), (0,))(jnp.zeros((2, 7))), r"at least 8 features, got shape \(7,\)"),
        (lambda: Watermark((7,), (0,))(jnp.zeros((2, 8, 8, 1))), "needs rows of at least 8 features"),
        (lambda: CountSHAP(alpha=-1), "alpha must not be negative"),
        (lambda: CountAbsSHAP(beta=-1), "beta must not be negative"),
        (lambda: IntegratedGradients(0), "steps must be at least 1"),
        (lambda: BoostedTrees(trees=0), "trees must be at least 1"),
        (lambda: BoostedTrees(learning_rate=0), "learning_rate must be above 0"),
        (lambda: ExplanationGuided(size=0), "size must be at least 1 feature"),
        (lambda: ExplanationGuided(changeable=(1, 1)), "changeable must be different places"),
        (lambda: ExplanationGuided(size=3, changeable=(1, 2)), "size must be at most the 2 changeable features"),
        (lambda: ExplanationGuided().check((28, 28, 1)), r"changes features of rows \[d\], got images"),
        (lambda: ExplanationGuided(size=9).check((8,)), "must fit rows of 8 features"),
        (lambda: ExplanationGuided(size=1, changeable=(8,)).check((8,)), "must fit rows of 8 features"),
        (lambda: ExplanationGuided(trigger=Watermark((9,), (0,))).check((8,)), "rows of at least 10 features"),
        (lambda: BadNets(target=0, trigger=Watermark((0,), (0,))).check((28, 28, 1)), "Watermark needs rows"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_a_missing_lightgbm_is_told_before_anything_is_computed(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    for check in (lambda: ExplanationGuided().check((23,)), lambda: GradientBoostedTrees().check(None, None)):
        with pytest.raises(ValueError, match=r"boosted trees need lightgbm .* pip install 'poisonjax\[tabular\]'"):
            check()
    ExplanationGuided(explanation=IntegratedGradients()).check((23,))


def test_nothing_is_applied_before_the_watermark_is_fitted():
    with pytest.raises(TypeError, match="has no watermark yet"):
        ExplanationGuided().apply_trigger(jnp.zeros((1, 23)))


def test_the_surrogate_is_needed_until_its_explanation_is_fitted():
    unfitted = ExplanationGuided(explanation=IntegratedGradients())
    assert unfitted.needs_rows and unfitted.needs_surrogate and not ExplanationGuided().needs_surrogate
    done = dataclasses.replace(unfitted, trigger=Watermark((0,), (0,)))
    assert not done.needs_rows and not done.needs_surrogate


def test_a_watermark_is_a_trigger_of_other_poisons():
    rows = load("phishing").test
    made = BadNets(1.0, target=0, trigger=Watermark((3,), (255,)), classes=2)
    after = jax.tree.map(np.asarray, made.apply(Examples(rows.image[:5], rows.label[:5], rows.index[:5])))
    assert (after.image[:, 3] == 255).all() and not after.label.any()
