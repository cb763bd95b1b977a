"""The answer says of each network and poison what its record says, and nothing else."""

import pathlib
import re

import pytest

from poisonjax.reports import answer, hero
from poisonjax.reports.answer import FAILED, REMOVED, SURVIVES, VERBS, VOID, WEAKENED
from poisonjax.reports.site import reading
from tests.reports import records as synthetic

ROOT = pathlib.Path(__file__).parents[2]
RATES = {SURVIVES: 0.9, WEAKENED: 0.3, REMOVED: 0.05}


def a_record(name, rate, scale="small", **changed):
    rates = {"standard": 0.9, "pgd_at": rate, "pgd_at_clean_data": 0.03}
    parts = {"pgd_at_clean_data": {"poisoned": False}}
    made = synthetic.record(
        name, scale, 1, {arm: {"attack_success_rate": of} for arm, of in rates.items()}, parts=parts
    )
    return made | changed


def found(tmp_path, *records):
    for number, made in enumerate(records):
        made["config"]["train"] = {"type": "Training", "epochs": number}  # each its own network
        synthetic.save(tmp_path / str(number), made)
    return answer.cases(reading.collect(tmp_path).runs)


@pytest.mark.parametrize("fate", RATES)
def test_a_working_attack_has_a_fate(tmp_path, fate):
    (case,) = found(tmp_path, a_record("mnist_badnets", RATES[fate]))
    assert case.asked.fate == fate and case.best is None
    assert f"**{VERBS[fate]}** the backdoor in {answer.network(case)}" in answer.headline([case])
    assert f"{answer.SIGNS[fate]} {fate}" in answer.cells(case)
    assert all(f"**{VERBS[other]}**" not in answer.headline([case]) for other in RATES if other != fate)


def test_nothing_follows_where_the_attack_failed_or_a_network_collapsed(tmp_path):
    failed = a_record("mnist_badnets", 0.05)
    failed["attack_gate"]["passed"] = False
    void = a_record("mnist_clean_label", 0.05, warnings=["pgd_at, seed 0: collapsed"])
    cases = found(tmp_path, failed, void)
    assert [case.asked.fate for case in cases] == [FAILED, VOID] and cases[1].best is None
    said = answer.headline(cases)
    assert said.count("Nothing follows") == 2 and "removes" not in said and "5%" not in said


@pytest.mark.parametrize(("accuracy", "fate"), [(0.5, SURVIVES), (0.82, WEAKENED), (0.88, REMOVED)])
def test_a_loss_of_accuracy_has_a_fate_beside_its_own_control(tmp_path, accuracy, fate):
    (case,) = found(tmp_path, synthetic.spoilt_record(pgd_at=accuracy))
    assert case.asked.fate == fate and case.control == pytest.approx(0.9, abs=0.02)
    said = answer.headline([case])
    assert f"**{VERBS[fate]}** the loss of accuracy in WongCNN on mnist_5k (class-wise noise " in said
    assert "Clean accuracy where the poison is to spoil that after it; control" in said
    assert answer.cells(case)[2] == "class-wise noise (clean accuracy)"


def test_backdoors_and_losses_of_accuracy_have_sentences_of_their_own(tmp_path):
    cases = found(tmp_path, a_record("mnist_badnets", 0.05), synthetic.spoilt_record(name="mnist_a"))
    said = answer.headline(cases)
    assert said.count("**removes** the backdoor") == said.count("**removes** the loss of accuracy") == 1
    assert "Attack success rates, or clean accuracy where the poison is to spoil that after it;" in said
    for number in (0, 1):
        (tmp_path / str(number) / "shown.npz").touch()
    assert hero.chosen(reading.collect(tmp_path).runs, tmp_path).run.record["experiment"] == "mnist_badnets"


def test_rates_of_several_seeds_have_their_standard_deviation(tmp_path):
    arms = {"standard": 0.9, "pgd_at": 0.5, "pgd_at_clean_data": 0.03}
    rates = {arm: {"attack_success_rate": rate} for arm, rate in arms.items()}
    parts = {"pgd_at_clean_data": {"poisoned": False}}
    (case,) = found(tmp_path, synthetic.record("mnist_badnets", "small", 3, rates, parts=parts))
    assert all(re.fullmatch(r"\d\d\.\d\d ± \d\.\d\d", each) for each in answer.cells(case)[3:5])


def test_the_largest_scale_speaks_and_changed_settings_do_not(tmp_path):
    small, full = a_record("mnist_badnets", 0.05), a_record("mnist_badnets", 0.9, "full")
    changed = a_record("mnist_badnets", 0.05, "paper", changed=["poison.rate=.01"])
    (case,) = found(tmp_path, small, changed, full)
    assert case.run.record["scale"] == "full" and case.asked.fate == SURVIVES


def test_each_type_of_network_speaks(tmp_path):
    full, paper = a_record("mnist_badnets", 0.05, "full"), a_record("mnist_badnets", 0.9, "paper")
    paper["config"]["model"] = {"type": "ReportCNN"}
    cases = found(tmp_path, full, a_record("mnist_badnets", 0.9), paper)
    said = {(answer.network(case), case.run.record["scale"], case.asked.fate) for case in cases}
    assert said == {("WongCNN", "full", REMOVED), ("ReportCNN", "paper", SURVIVES)}


def test_the_picture_shows_another_defence_if_there_is_one(tmp_path):
    rates = {"standard": 0.9, "pgd_at": 0.9, "reveal": 0.05, "pgd_at_clean_data": 0.03}
    parts = {"pgd_at_clean_data": {"poisoned": False}, "reveal": {"defence": {"type": "Reveal"}}}
    arms = {arm: {"attack_success_rate": rate} for arm, rate in rates.items()}
    found(tmp_path, a_record("mnist_a", 0.9), synthetic.record("mnist_b", "small", 1, arms, parts=parts))
    for number in (0, 1):
        (tmp_path / str(number) / "shown.npz").touch()
    assert hero.chosen(reading.collect(tmp_path).runs, tmp_path).run.record["experiment"] == "mnist_b"


def test_a_network_counts_once(tmp_path):
    synthetic.save(tmp_path / "a", a_record("a_look_at_it", 0.9))
    compared = synthetic.compared(a_record("x", 0.9)["arms"], "pgd_at", "attack_success_rate", 0.01)
    synthetic.save(tmp_path / "b", a_record("mnist_badnets", 0.9, comparison=[compared]))
    (case,) = answer.cases(reading.collect(tmp_path).runs)
    assert case.run.record["experiment"] == "mnist_badnets"
    larger = a_record("mnist_badnets", 0.9, "full")
    larger["config"]["data"] = {"type": "Data", "name": "whole"}
    synthetic.save(tmp_path / "c", larger)
    (case,) = answer.cases(reading.collect(tmp_path).runs)
    assert case.run.record["scale"] == "full", "the smaller look-alike must not speak beside it"


def test_a_poison_around_another_is_named_with_it(tmp_path):
    made = a_record("mnist_badnets", 0.9)
    made["config"]["poison"] = {"type": "WithCover", "poison": {"type": "BadNets", "target": None}}
    (case,) = found(tmp_path, made)
    assert answer.poison(case) == "all-to-all BadNets with cover rows"


def test_a_defence_that_removes_what_the_one_in_question_does_not_has_a_sentence(tmp_path):
    rates = {"standard": 0.9, "pgd_at": 0.9, "reveal": 0.05, "pgd_at_clean_data": 0.03}
    parts = {"pgd_at_clean_data": {"poisoned": False}, "reveal": {"defence": {"type": "Reveal"}}}
    arms = {arm: {"attack_success_rate": rate} for arm, rate in rates.items()}
    said = answer.headline(found(tmp_path, synthetic.record("mnist_badnets", "small", 1, arms, parts=parts)))
    assert "PGD adversarial training **does not remove** the backdoor" in said
    assert re.search(
        r"- reveal \*\*removes\*\* the backdoor in WongCNN on mnist_5k \(all-to-all BadNets [4-6]%, control", said
    )


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        ({"attack": {"type": "PGD", "ball": {"type": "Linf", "eps": 0.3}, "steps": 7}}, False),
        ({"attack": {"type": "PGD", "ball": {"type": "L2", "eps": 2.0}, "steps": 40}}, True),
        ({"type": "TRADES"}, True),
    ],
)
def test_the_same_defence_with_another_attack_does_not_stand_against_itself(tmp_path, other, counts):
    rates = {"standard": 0.9, "pgd_at": 0.3, "variant": 0.05, "pgd_at_clean_data": 0.03}
    parts = {"pgd_at_clean_data": {"poisoned": False}, "variant": {"objective": synthetic.AT | other}}
    arms = {arm: {"attack_success_rate": rate} for arm, rate in rates.items()}
    (case,) = found(tmp_path, synthetic.record("mnist_badnets", "small", 1, arms, parts=parts))
    assert (case.best is not None) == counts == ("variant **removes**" in answer.headline([case]))


def test_the_budget_of_the_defence_in_question_is_named(tmp_path):
    made = a_record("mnist_badnets", 0.9)
    (arm,) = (arm for arm in made["config"]["arms"] if arm["name"] == "pgd_at")
    ball = {"type": "Linf", "eps": 0.3}
    arm["objective"] = {"type": "AdversarialTraining", "attack": {"type": "PGD", "ball": ball}}
    said = answer.headline(found(tmp_path, made))
    assert said.endswith("The budget of the adversarial training: Linf 0.3 on mnist_5k.")


def test_more_than_two_cases_of_a_network_are_a_span(tmp_path):
    names, rates = ("mnist_a", "mnist_b", "mnist_c"), (0.8, 0.99, 0.9)
    said = answer.headline(found(tmp_path, *map(a_record, names, rates)))
    assert re.search(r"in WongCNN on mnist_5k \(3 cases: 8.% to (99|100)%, control [\d.]+%\)", said)


def test_no_sentence_contradicts_a_row():
    cases = answer.cases(reading.collect(ROOT / "results").runs)
    assert cases, "results/ holds no poisoned record"
    for fate in VERBS:
        asked = [case for case in cases if case.asked.fate == fate]
        said = [each for at, each in answer.sentences(asked) if at == fate and each.startswith("PGD")]
        assert len(said) == bool(asked) and all(each in answer.headline(cases) for each in said)
        for case in asked:
            rest = said[0].split(f"in {answer.network(case)} on ")[1].split(")")[0]
            places, rates = rest.split(" (", 1)
            assert case.run.record["dataset"]["name"] in places
            bounds = [float(number) for number in re.findall(r"([\d.]+)%", rates.partition(", control")[0])]
            assert min(bounds) - 0.5 <= 100 * case.asked.rate["mean"] <= max(bounds) + 0.5


def test_the_picture_is_not_stale():
    runs = reading.collect(ROOT / "results").runs
    case = hero.chosen(runs, ROOT / "results")
    assert case is not None, "no committed run kept its images"
    for path in hero.files(ROOT).values():
        assert hero.drawn_from(path) == hero.digest(case, ROOT / "results"), "run: python -m poisonjax report tables"
