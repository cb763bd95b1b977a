"""Which conclusions follow from which numbers."""

import dataclasses

import pytest

from experiments import mnist_clean_label
from poisonjax.attacks import PGD, AutoAttack, Linf
from poisonjax.evaluation.metrics import METRICS
from poisonjax.experiment import Arm, Reported
from poisonjax.poisons import ClassNoise, NoPoison
from poisonjax.reports import table, verdict
from poisonjax.runs.estimate import image_gradients, spell
from poisonjax.training import TRADES, AdversarialTraining
from tests.reports import records as synthetic


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


AT = AdversarialTraining(PGD(Linf(0.3), step=0.01, steps=40))
ARMS = (
    Arm("standard"),
    Arm("pgd_at", AT),
    Arm("pgd_at_clean_data", AT, poisoned=False),
    Arm("standard_clean_data", poisoned=False),
)


def arms(standard, pgd_at, control, clean=0.0, **cells):
    """All metrics at .5 but for the attack success rates given, of the arms in ARMS."""
    made = {arm.name: {each: metric(0.5) for each in METRICS} for arm in ARMS}
    for name, rate in zip(made, (standard, pgd_at, control, clean), strict=True):
        made[name]["attack_success_rate"] = metric(rate)
        made[name]["parameters"] = 7
    for cell, value in cells.items():
        arm, name = cell.split("__")
        made[arm][name] = metric(value)
    return made


NO_AUDIT = {arm.name: [] for arm in ARMS}


@pytest.fixture(scope="module")
def plan():
    return dataclasses.replace(mnist_clean_label.experiment("paper"), arms=ARMS)


@pytest.mark.parametrize(
    ("rates", "spoiled", "expected"),
    [
        ((0.95, 0.97, 0.01), [], "95.0% after standard training; the backdoor survives pgd_at (97.0%). Control wit"),
        ((0.95, 0.97, 0.01), [], "Control without poison: 1.0%."),
        ((0.95, 0.03, 0.01), [], "pgd_at removes the backdoor (3.0%)"),
        ((0.95, 0.30, 0.01), [], "pgd_at weakens the backdoor but does not remove it (30.0%)"),
        ((0.95, 0.60, 0.30), [], "pgd_at weakens the backdoor"),  # of what the control leaves, less than half
        ((0.49, 0.00, 0.00), [], "Nothing can be concluded about the defence: the attack did not work"),
        ((0.50, 0.00, 0.00, 0.517), [], "attack success rate 50.0%, 51.7% on clean data: an excess of -3.5% of"),
        ((None, 0.00, 0.00), [], "Nothing can be concluded about the defence: the attack did not work"),
        ((0.95, 0.10, 0.01), ["pgd_at, seed 0: collapsed"], "nothing can be concluded about pgd_at (pgd_at, seed 0: c"),
        ((0.95, 0.10, 0.01), ["standard, seed 0: collapsed"], "Nothing can be concluded about the defence: standard"),
        ((0.95, 0.10, 0.01), ["standard_clean_data, seed 0: x"], "about the defence: standard_clean_data, seed 0: x."),
    ],
)
def test_the_finding_in_one_sentence(plan, rates, spoiled, expected):
    made = arms(*rates)
    audits = NO_AUDIT | {line.split(",")[0]: [line] for line in spoiled}
    assert expected in verdict.finding(plan, made, verdict.gate(plan, made), audits)


@pytest.mark.parametrize(
    ("rates", "passed", "excess"),
    [
        ((0.50, 0.5, 0.0, 0.0), True, 0.5),
        ((0.49, 0.5, 0.0, 0.0), False, 0.49),
        ((0.61, 0.5, 0.0, 0.2), True, 0.5125),
        ((0.59, 0.5, 0.0, 0.2), False, 0.4875),
        ((0.50, 0.5, 0.0, 0.5), False, 0.0),
        ((1.00, 0.5, 0.0, 1.0), False, None),
        ((None, 0.5, 0.0, 0.0), False, None),
    ],
)
def test_gate_is_relative_to_the_same_training_on_clean_data(plan, rates, passed, excess):
    gated = verdict.gate(plan, arms(*rates))
    assert gated["passed"] == passed and gated["excess"] == pytest.approx(excess)
    assert gated["control"] == rates[3] and gated["threshold"] == plan.evaluation.min_attack_success == 0.5


def test_without_a_clean_control_the_gate_is_absolute(plan):
    plan = dataclasses.replace(plan, arms=ARMS[:3])
    assert verdict.gate(plan, arms(0.5, 0.5, 0.4)) == synthetic.gate(0.5, None)
    assert not verdict.gate(plan, arms(0.49, 0.5, 0.4))["passed"]


def test_control_with_standard_training_serves_where_no_defended_one_is_sound(plan):
    made, audits = arms(0.95, 0.03, 0.9, 0.01), NO_AUDIT | {"pgd_at_clean_data": ["collapsed"]}
    found = verdict.finding(plan, made, verdict.gate(plan, made), audits)
    assert "pgd_at removes the backdoor (3.0%)" in found and found.endswith("Control without poison: 1.0%.")


def test_without_a_control_no_backdoor_is_called_removed(plan):
    plan = dataclasses.replace(plan, arms=ARMS[:3])
    made, audits = arms(0.95, 0.03, 0.01), NO_AUDIT | {"pgd_at_clean_data": ["collapsed"]}
    found = verdict.finding(plan, made, verdict.gate(plan, made), audits)
    assert "weakens the backdoor but does not remove it" in found and "Control" not in found


def test_without_a_defence_the_finding_is_a_sentence(plan):
    plan = dataclasses.replace(plan, arms=(ARMS[0],))
    made = arms(0.95, 0.0, 0.0)
    assert verdict.finding(plan, made, verdict.gate(plan, made), NO_AUDIT) == (
        "Attack success rate 95.0% after standard training."
    )


SPOILT = (*ARMS, Arm("trades", TRADES(AT.attack)), Arm("trades_clean_data", TRADES(AT.attack), poisoned=False))


def spoilt(*accuracies):
    """The metrics of SPOILT, without any of triggers, for these clean accuracies."""
    cells = {arm.name: {each: metric(None) for each in METRICS} for arm in SPOILT}
    for name, accuracy in zip(cells, accuracies, strict=True):
        cells[name] |= {"clean_accuracy": metric(accuracy), "parameters": 7}
    return cells


@pytest.fixture(scope="module")
def availability(plan):
    judge = dataclasses.replace(plan.evaluation, min_attack_success=0.1)
    return dataclasses.replace(plan, poison=ClassNoise(), arms=SPOILT, evaluation=judge)


@pytest.mark.parametrize(
    ("accuracy", "control", "passed", "excess"),
    [(0.2, 0.8, True, 0.75), (0.7, 0.8, True, 0.125), (0.75, 0.8, False, 0.0625), (0.9, 0.8, False, -0.125)],
)
def test_a_poison_without_a_trigger_works_if_it_takes_accuracy(availability, accuracy, control, passed, excess):
    gated = verdict.gate(availability, spoilt(accuracy, 0.8, 0.8, control, 0.8, 0.8))
    assert gated["passed"] == passed and gated["excess"] == pytest.approx(excess)
    assert gated["asr"] == pytest.approx(1 - accuracy) and gated["control"] == pytest.approx(1 - control)


def test_a_loss_of_accuracy_is_measured_from_a_control(availability):
    with pytest.raises(ValueError, match=r"arms must have standard on clean data too .*, got standard, pgd_at$"):
        dataclasses.replace(availability, arms=ARMS[:2])


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ((0.2, 0.89, 0.9, 0.98, 0.6, 0.6), "Clean accuracy 20.0% after standard training; pgd_at removes the loss of"),
        ((0.2, 0.89, 0.9, 0.98, 0.6, 0.6), "trades removes the loss of accuracy (60.0%, 60.0% without poison). "),
        ((0.2, 0.89, 0.9, 0.98, 0.6, 0.6), "Control without poison: 90.0%."),
        ((0.2, 0.50, 0.9, 0.98, 0.6, 0.6), "the loss of accuracy survives pgd_at (50.0%); trades removes"),
        ((0.2, 0.84, 0.9, 0.98, 0.6, 0.6), "pgd_at weakens the loss of accuracy but does not remove it (84.0%)"),
        ((0.95, 0.9, 0.9, 0.98, 0.6, 0.6), "(clean accuracy 95.0%, 98.0% on clean data: a loss of 3.1% of that, below"),
    ],
)
def test_a_loss_of_accuracy_is_told_beside_the_same_defence_on_clean_data(availability, accuracies, expected):
    made, audits = spoilt(*accuracies), {arm.name: [] for arm in SPOILT}
    assert expected in verdict.finding(availability, made, verdict.gate(availability, made), audits)


def test_a_baseline_has_no_gate_and_says_how_good_it_is(plan):
    plan = dataclasses.replace(plan, poison=NoPoison())
    made = arms(None, None, None, pgd_at__robust_accuracy=0.25)
    assert verdict.gate(plan, made) is None
    found = verdict.finding(plan, made, None, NO_AUDIT | {"standard": ["collapsed"]})
    assert found.startswith("No poisoning: clean baselines. Test accuracy: standard 50.0% clean")
    assert "standard 50.0% clean and 50.0% under PGD (collapsed)" in found and "50.0% clean and 25.0%" in found
    plan = dataclasses.replace(plan, reported=(Reported("T", "pgd_at", "clean_accuracy", 0.5),))
    (row,) = verdict.compare(plan, made, "paper", [], None, NO_AUDIT)
    assert row["verdict"] == "reproduced" and row["reason"] == ""


@pytest.mark.parametrize(
    ("rate", "scale", "changed", "audit", "reason"),
    [
        (0.9, "paper", [], [], ""),
        (0.4, "paper", [], [], "the attack did not work on standard training"),  # that proves no defence
        (0.9, "small", [], [], "the small scale is not the published setting"),
        (0.9, "full", [], [], ""),
        (0.9, "paper", ["train.epochs=1"], [], "settings were changed: train.epochs=1"),
        (0.9, "paper", [], ["collapsed"], "collapsed"),
    ],
)
def test_a_cell_is_void_unless_everything_holds(plan, rate, scale, changed, audit, reason):
    plan = dataclasses.replace(plan, reported=(Reported("T", "pgd_at", "clean_accuracy", 0.5),))
    made = arms(rate, 0.5, 0.0)
    (row,) = verdict.compare(plan, made, scale, changed, verdict.gate(plan, made), NO_AUDIT | {"pgd_at": audit})
    assert row["verdict"] == ("inconclusive" if reason else "reproduced") and row["reason"] == reason
    assert row["reported"] == row["measured"] == 0.5


def test_a_number_about_one_class_is_compared_with_that_class(plan):
    plan = dataclasses.replace(plan, reported=(Reported("T4", "pgd_at", "clean_accuracy", 0.2, label=1),))
    made = arms(0.9, 0.5, 0.0)
    by_class = {"numerator": [[9, 2], [9, 2]], "denominator": [[10, 10], [10, 10]]}
    made["pgd_at"]["clean_accuracy"]["per_class"] = by_class
    (row,) = verdict.compare(plan, made, "paper", [], verdict.gate(plan, made), NO_AUDIT)
    assert row["measured"] == 0.2 and row["label"] == 1 and row["verdict"] == "reproduced"
    assert "clean accuracy, class 1" in table.compared(row)


def test_the_control_explains_a_number_that_only_clean_data_gives(plan):
    reported = Reported("T5", "pgd_at", "triggered_accuracy", 0.9068)
    plan = dataclasses.replace(plan, reported=(reported,))
    explained = arms(0.9, 0.9, 0.0, pgd_at__triggered_accuracy=0.01, pgd_at_clean_data__triggered_accuracy=0.91)
    unexplained = arms(0.9, 0.9, 0.0, pgd_at__triggered_accuracy=0.01, pgd_at_clean_data__triggered_accuracy=0.5)
    for made, said in ((explained, True), (unexplained, False)):
        rows = verdict.compare(plan, made, "paper", [], verdict.gate(plan, made), NO_AUDIT)
        assert rows[0]["verdict"] == "not_reproduced" and ("never saw the poison" in rows[0]["reason"]) == said
        assert any("never saw the poison" in line for line in verdict.reasons(plan, rows, "paper", [])) == said


def test_reasons_say_what_was_not_the_published_setting(plan):
    lines = verdict.reasons(plan, [{"verdict": "inconclusive"}], "small", ["poison.rate=.1"])
    assert "small scale" in lines[0] and "poison.rate=.1" in lines[1] and set(plan.caveats) <= set(lines)
    assert verdict.reasons(plan, [], "small", ["poison.rate=.1"]) == [], "nothing to differ from"


def test_the_full_scale_is_compared_and_says_in_what_it_differs(plan):
    plan = dataclasses.replace(plan, reported=(Reported("T", "pgd_at", "clean_accuracy", 0.9),))
    made = arms(0.9, 0.5, 0.0)
    rows = verdict.compare(plan, made, "full", [], verdict.gate(plan, made), NO_AUDIT)
    assert rows[0]["verdict"] == "not_reproduced" and "ReportCNN after 8 epochs" in rows[0]["reason"]
    first, second, *_ = verdict.reasons(plan, rows, "full", [])
    assert first.startswith("at full scale data, poison and attacks are those of the report")
    assert second == f"T, pgd_at, clean_accuracy: {rows[0]['reason']}"


def test_every_metric_has_a_label():
    assert list(table.LABELS) == list(METRICS)


def test_undefined_metrics_are_dashes():
    assert table.measured(metric(None)) == "–"


def test_estimates_grow_with_the_work(plan):
    judge = dataclasses.replace(plan.evaluation, attack=AT.attack, autoattack=None)
    plan = dataclasses.replace(plan, evaluation=judge, arms=ARMS)
    base = image_gradients(plan, 60000, 10000)
    twice = dataclasses.replace(plan, train=dataclasses.replace(plan.train, epochs=2 * plan.train.epochs))
    epochs, attacker = plan.train.epochs, plan.surrogate.train.epochs
    train = epochs * 60000 * (4 * 2 + 2 * 40)
    assert image_gradients(twice, 60000, 10000) - base == train
    longer = Arm("pgd_at", AdversarialTraining(dataclasses.replace(AT.attack, steps=50)))
    more = image_gradients(dataclasses.replace(plan, arms=(ARMS[0], longer, *ARMS[2:])), 60000, 10000) - base
    assert more == epochs * 60000 * 10
    assert base == train + attacker * 60000 * 42 + 4 * 10000 * 40 + 1980 * 200
    autoattack = AutoAttack(Linf(0.3))
    judged = dataclasses.replace(judge, autoattack=autoattack, autoattack_images=100)
    extra = image_gradients(dataclasses.replace(plan, evaluation=judged), 60000, 10000) - base
    assert extra == 4 * 100 * (autoattack.cost.gradients + autoattack.cost.queries // 2)


@pytest.mark.parametrize(
    ("seconds", "spelled"), [(3, "3 seconds"), (300, "5.0 minutes"), (36000, "10.0 hours"), (4e5, "4.6 days")]
)
def test_durations_are_spelled(seconds, spelled):
    assert spell(seconds) == spelled
