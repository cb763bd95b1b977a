"""What is concluded from which numbers, and what is not."""

import dataclasses

import pytest

from experiments import mnist_clean_label
from poisonjax.estimate import image_gradients, spell
from poisonjax.experiment import METRICS, Printed
from poisonjax.reports import figures, table, verdict


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ([0.89, 0.91], "reproduced"),
        ([0.88, 0.92], "reproduced"),
        ([0.87, 0.91], "inconclusive"),
        ([0.10, 0.30], "not_reproduced"),
        ([0.93, 0.99], "not_reproduced"),
        ([0.0, 1.0], "inconclusive"),
        (None, "inconclusive"),
    ],
)
def test_verdict_by_where_the_interval_lies(interval, expected):
    assert verdict.verdict(interval, 0.9, 0.02, usable=True) == expected
    assert verdict.verdict(interval, 0.9, 0.02, usable=False) == "inconclusive"


def metric(value):
    wide = None if value is None else [max(0.0, value - 0.01), min(1.0, value + 0.01)]
    nothing = {
        "std": None,
        "numerator": [1],
        "denominator": [2],
        "per_class": {"numerator": [[1]], "denominator": [[2]]},
    }
    return {"mean": value, "ci95": wide, **nothing}


def arms(standard, pgd_at, control, **cells):
    """All metrics at .5 but for the attack success rates given."""
    made = {name: {each: metric(0.5) for each in METRICS} for name in ("standard", "pgd_at", "pgd_at_clean_data")}
    for name, rate in zip(made, (standard, pgd_at, control), strict=True):
        made[name]["attack_success_rate"] = metric(rate)
    for cell, value in cells.items():
        arm, name = cell.split("__")
        made[arm][name] = metric(value)
    return made


@pytest.fixture(scope="module")
def plan():
    return mnist_clean_label.experiment("paper")


@pytest.mark.parametrize(
    ("rates", "spoiled", "expected"),
    [
        ((0.95, 0.97, 0.01), [], "The backdoor survives"),
        ((0.95, 0.03, 0.01), [], "leaves no backdoor"),
        ((0.95, 0.30, 0.01), [], "weakens the backdoor but leaves it"),
        ((0.49, 0.00, 0.00), [], "Nothing can be concluded about the defence: the attack did not work"),
        ((None, 0.00, 0.00), [], "Nothing can be concluded"),
        ((0.95, 0.10, 0.01), ["pgd_at, seed 0: collapsed"], "Nothing can be concluded about the defence: pgd_at"),
    ],
)
def test_the_finding_in_one_sentence(plan, rates, spoiled, expected):
    made = arms(*rates)
    assert expected in verdict.finding(made, verdict.gate(plan, made), spoiled)


@pytest.mark.parametrize(
    ("rate", "comparable", "audit", "expected"),
    [
        (0.9, True, [], "reproduced"),
        (0.4, True, [], "inconclusive"),  # the attack did not work: that proves no defence
        (0.9, False, [], "inconclusive"),  # not the published setting
        (0.9, True, ["collapsed"], "inconclusive"),
    ],
)
def test_a_cell_is_void_unless_everything_holds(plan, rate, comparable, audit, expected):
    plan = dataclasses.replace(plan, printed=(Printed("T", "pgd_at", "clean_accuracy", 0.5),))
    made = arms(rate, 0.5, 0.0)
    audits = {"standard": [], "pgd_at": audit, "pgd_at_clean_data": []}
    (row,) = verdict.compare(plan, made, comparable, verdict.gate(plan, made), audits)
    assert row["verdict"] == expected and row["printed"] == row["measured"] == 0.5


def test_the_control_explains_a_number_that_only_clean_data_gives(plan):
    printed = Printed("T5", "pgd_at", "triggered_accuracy", 0.9068)
    plan = dataclasses.replace(plan, printed=(printed,))
    explained = arms(0.9, 0.9, 0.0, pgd_at__triggered_accuracy=0.01, pgd_at_clean_data__triggered_accuracy=0.91)
    unexplained = arms(0.9, 0.9, 0.0, pgd_at__triggered_accuracy=0.01, pgd_at_clean_data__triggered_accuracy=0.5)
    rows = [{"verdict": "not_reproduced"}]
    assert any("never saw the poison" in line for line in verdict.reasons(plan, explained, rows, "paper", []))
    assert not any("never saw the poison" in line for line in verdict.reasons(plan, unexplained, rows, "paper", []))


def test_reasons_say_what_was_not_the_published_setting(plan):
    lines = verdict.reasons(plan, arms(0.9, 0.9, 0.0), [{"verdict": "inconclusive"}], "small", ["poison.rate=.1"])
    assert "small scale" in lines[0] and "poison.rate=.1" in lines[1] and set(plan.known) <= set(lines)


def test_every_metric_has_a_label():
    assert list(table.LABELS) == list(METRICS)


def test_undefined_metrics_are_dashes_in_table_and_absent_in_figures():
    assert table.measured(metric(None)) == "–"
    record = {
        "experiment": "e",
        "scale": "smoke",
        "seeds": [0],
        "printed": {},
        "arms": {name: cells | {"history": []} for name, cells in arms(None, 0.5, 0.0).items()},
    }
    drawn = figures.bars(record).axes[0].patches
    assert len(drawn) == 3 * len(METRICS) - 1


def test_estimates_grow_with_the_work(plan):
    base = image_gradients(plan, 60000, 10000)
    twice = dataclasses.replace(plan, train=dataclasses.replace(plan.train, epochs=2 * plan.train.epochs))
    train = 20 * 60000 * (2 + 2 * 42)
    assert image_gradients(twice, 60000, 10000) - base == train
    assert base == train + 10 * 60000 * 42 + 3 * 10000 * 40 + 1980 * 200


@pytest.mark.parametrize(
    ("seconds", "said"), [(3, "3 seconds"), (300, "5.0 minutes"), (36000, "10.0 hours"), (4e5, "4.6 days")]
)
def test_durations_are_spelled(seconds, said):
    assert spell(seconds) == said
