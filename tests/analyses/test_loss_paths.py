"""Losses of training rows by epoch: of the right rows, under the right attack, and where a trigger sets rows apart."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from experiments import mnist_badnets
from poisonjax.analyses import LossPaths
from poisonjax.analyses.loss_paths import AUC, GROUPS, MEASURES, Paths, finding, groups_of
from poisonjax.attacks import PGD, Linf
from poisonjax.evaluation.analysis import Subject
from poisonjax.evaluation.victim import function_victim
from poisonjax.experiment import Arm
from poisonjax.poisons import BadNets, BrightSquare, NoPoison
from poisonjax.runs import runner
from poisonjax.runs.job import Run
from poisonjax.runtime import distributed
from poisonjax.training import AdversarialTraining
from poisonjax.types import Examples

STEP = PGD(Linf(0.1), step=0.1, steps=1, random_start=False)


def brightness(scale, x):
    """Two classes, by the brightness of the one pixel: the margin of class 1 is 2 scale (x - 1/2)."""
    seen = scale * (x[:, 0, 0, 0] - 0.5)
    return jnp.stack([-seen, seen], -1)


def subject(pixels, labels, scale=1.0, own_attack=None, poisoned=(), cover=()):
    """A network and its training rows, of one pixel each, numbered from 10; the experiment's attack does nothing."""
    image = np.asarray(pixels, np.uint8).reshape(-1, 1, 1, 1)
    rows = Examples(image, np.asarray(labels, np.int32), 10 + np.arange(len(image), dtype=np.int32))
    victim, key = distributed.replicate((function_victim(Partial(brightness, scale)), jax.random.key(0)))
    still = dataclasses.replace(STEP, ball=Linf(0.0))
    looked_at = Subject(
        victim, rows, BadNets(classes=2), still, key, 3, 0, None, None, lambda: rows, lambda: (poisoned, cover)
    )
    return looked_at._replace(own_attack=own_attack)


# Rows 10 and 11 are poisoned, 12 is a cover row; 13 to 15 are clean of their class, 16 is clean of the other.
PIXELS, LABELS = [204, 255, 0, 153, 178, 229, 51], [1, 1, 1, 1, 1, 1, 0]
CHANGED = {"poisoned": [10, 11], "cover": [12]}


def told(measure, group, quantile="median"):
    return f"loss_paths/{measure}/{group}/{quantile}"


def test_each_training_row_is_of_the_group_that_its_index_and_label_say():
    found = {
        group: np.flatnonzero(mask).tolist() for group, mask in groups_of(subject(PIXELS, LABELS, **CHANGED)).items()
    }
    assert found == {"poisoned": [0, 1], "same_class": [3, 4, 5], "other_classes": [6]}


@pytest.mark.parametrize(
    ("analysis", "own", "moved"),
    [
        (LossPaths(), None, 0.0),
        (LossPaths(), STEP, 0.1),
        (LossPaths(dataclasses.replace(STEP, ball=Linf(0.05))), STEP, 0.05),
    ],
    ids=["the experiment's", "the training's", "a stated one"],
)
def test_a_curve_has_margin_loss_and_loss_under_the_attack(analysis, own, moved):
    found = analysis.curve(subject(PIXELS, LABELS, own_attack=own, **CHANGED))
    margins = 2 * (np.array([153, 178, 229]) / 255 - 0.5)
    assert found[told("margin", "same_class")] == pytest.approx(margins[1], abs=1e-5)
    assert found[told("loss", "same_class")] == pytest.approx(np.log1p(np.exp(-margins[1])), rel=1e-5)
    attacked = np.log1p(np.exp(-(margins[1] - 2 * moved)))
    assert found[told("loss_under_attack", "same_class")] == pytest.approx(attacked, rel=1e-5)
    assert found[told("margin", "same_class", "q25")] == pytest.approx(np.quantile(margins, 0.25), abs=1e-5)
    assert found[told("margin", "other_classes")] == pytest.approx(0.6, abs=1e-5)
    assert found[AUC] == pytest.approx(5 / 6)  # five of the six pairs have the poisoned row the easier


def test_a_loss_below_any_float_is_told_and_one_that_is_not_finite_is_not():
    assert 0 < LossPaths().curve(subject(PIXELS, LABELS, 80.0, **CHANGED))[told("loss", "poisoned")] < 1e-20
    assert LossPaths().curve(subject(PIXELS, LABELS, np.nan, **CHANGED)) == {}


def test_rows_are_spread_over_the_data_and_absent_groups_left_out():
    few = LossPaths(rows=2)
    found = few.curve(subject(PIXELS, LABELS, **CHANGED))
    between = np.mean([153, 229]) / 255  # the first and the last of three
    assert found[told("margin", "same_class")] == pytest.approx(2 * (between - 0.5), abs=1e-5)
    lone = LossPaths().curve(subject(PIXELS, LABELS))
    assert AUC not in lone and {name.split("/")[2] for name in lone} == {"other_classes"}


@pytest.fixture(scope="module")
def loud(data_dir, tmp_path_factory):
    """A backdoor that nobody could miss, and adversarial training that does not cover it."""
    weak = AdversarialTraining(PGD(Linf(0.1), step=0.05, steps=3))
    plan = mnist_badnets.experiment("smoke")
    plan = dataclasses.replace(
        plan,
        poison=BadNets(0.3, 0, BrightSquare(6)),
        train=dataclasses.replace(plan.train, epochs=15),
        arms=(Arm("standard"), Arm("pgd_at", weak), Arm("standard_clean_data", poisoned=False)),
        analyses=(LossPaths(rows=50),),
        reported=(),
    )
    place = tmp_path_factory.mktemp("loud")
    return place, runner.run(Run(plan, runner.load(plan, data_dir), place, "smoke"))


def test_adversarial_training_makes_rows_of_a_strong_trigger_the_easiest_of_their_class(loud):
    of = loud[1]["analyses"]["loss_paths"]["arms"]["pgd_at"]
    attacked = {group: of["medians"][group]["loss_under_attack"]["mean"] for group in GROUPS}
    assert attacked["poisoned"] < 0.5 * attacked["same_class"]
    assert of["auc"]["last"]["mean"] > 0.9


def test_a_run_has_paths_of_poisoned_arms_only_and_a_picture(loud):
    place, record = loud
    for arm in ("standard", "pgd_at"):
        (history,) = record["arms"][arm]["history"]
        assert len(history) == 15 and all(told("loss", "poisoned") in row and AUC in row for row in history)
    assert not any("/" in name for row in record["arms"]["standard_clean_data"]["history"][0] for name in row)
    look = record["analyses"]["loss_paths"]
    assert look["arms"]["standard_clean_data"] == {} and look["arms"]["pgd_at"]["rows"]["poisoned"] == 50
    assert [row[0] for row in look["tables"][0]["rows"]] == ["standard"] * 3 + ["pgd_at"] * 3
    assert (place / "figures" / "loss_paths.png").exists()


def paths(auc, groups=3):
    """Paths of so many epochs, without the groups beyond the first ones."""
    values = np.ones((len(auc), len(GROUPS), len(MEASURES), 3))
    values[:, groups:] = np.nan
    return Paths(np.arange(len(auc)) + 1.0, values, np.array(auc), np.array([5, 5, 5]) * (np.arange(3) < groups))


def test_the_title_says_on_which_side_each_arm_leaves_poisoned_rows():
    said = finding({"a": paths([0.2, 0.99]), "b": paths([0.9, 0.01]), "c": paths([0.9, 0.5]), "d": paths([0.1, 0.9])})
    ends = "easier in a (AUC 0.99) and d (AUC 0.90), harder in b (AUC 0.01), not set apart in c (AUC 0.50)"
    assert said.endswith(ends)
    assert finding({"nothing to compare": paths([np.nan])}) == LossPaths.heading


def test_arms_without_paths_and_groups_without_rows_are_left_out():
    analysis, nothing = LossPaths(), paths([])
    measured = {"all": analysis.measure(paths([0.3, 0.7], 2), None), "clean": analysis.measure(nothing, None)}
    summaries = {arm: analysis.summary([of, of]) for arm, of in measured.items()}
    [table] = analysis.tables(summaries)
    assert summaries["clean"] == {} and [row[:3] for row in table.rows] == [
        ["all", GROUPS["poisoned"], "5"],
        ["all", GROUPS["same_class"], "5"],
    ]
    assert table.rows[0][-2:] == ["0.3 ± 0", "0.7 ± 0"] and table.rows[1][-2:] == ["–", "–"]
    figure = analysis.figures({"all": paths([0.3, 0.7], 2), "clean": nothing}, "x", ())["loss_paths"]
    assert [axis.get_title(loc="left") for axis in figure.axes if axis.get_title(loc="left")] == ["all"]
    assert len(figure.legends[0].get_texts()) == 2
    assert analysis.tables({"clean": {}}) == [] and analysis.figures({"clean": nothing}, "x", ()) == {}


@pytest.mark.parametrize("rows", [0, 2.5])
def test_impossible_numbers_of_rows_are_refused(rows):
    with pytest.raises(ValueError, match="rows must be") as caught:
        LossPaths(rows=rows)
    assert "\n" not in str(caught.value)


def test_an_experiment_without_poison_is_refused():
    with pytest.raises(ValueError, match="NoPoison poisons none"):
        LossPaths().check(SimpleNamespace(), NoPoison())
