"""Records of format 1 are shown as if this version had written them, with the numbers that they hold."""

import copy
import json
import pathlib
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from poisonjax.reports import table
from poisonjax.reports.site import reading
from poisonjax.reports.upgrade import FORMAT, upgraded

ROOT = pathlib.Path(__file__).parents[2]
COMMITTED = sorted((ROOT / "results").rglob("record.json"))
OLD = [path for path in COMMITTED if json.loads(path.read_bytes())["format"] == 1]
NAMES = {
    "standard": "standard",
    "pgd_at": "pgd_at_as_reported",
    "pgd_at_madry": "pgd_at",
    "pgd_at_clean_data": "pgd_at_as_reported_clean_data",
    "standard_x4": "standard_x4",
    "pgd_at_madry_x4": "pgd_at_x4",
    "standard_report_cnn": "standard_report_cnn",
    "pgd_at_report_cnn": "pgd_at_as_reported_report_cnn",
    "pgd_at_madry_report_cnn": "pgd_at_report_cnn",
}
MOVED = ("activations", "attacks", "attacks_audit")
old_records = pytest.mark.parametrize("path", OLD, ids=lambda path: path.parent.name)


def read(path: pathlib.Path) -> dict:
    return json.loads(path.read_bytes())


def numbers(value, path: tuple = ()) -> Iterator[tuple[tuple, float]]:
    """(path, number) of every number below a value."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in items:
            yield from numbers(part, (*path, name))
    elif isinstance(value, int | float):
        yield path, value


def attack(eps: float) -> dict:
    return {"type": "PGD", "ball": {"type": "Linf", "eps": eps}, "steps": 40}


@pytest.fixture(scope="module")
def old() -> dict:
    """The richest of the committed records of format 1, with every field that some had."""
    (attacks,) = [read(path) for path in OLD if path.parent.name == "mnist_attacks"]
    (poisoned,) = [read(path) for path in OLD if path.parent.name == "mnist_clean_label"]
    made = copy.deepcopy(poisoned)
    for arm, fields in made["arms"].items():
        fields["attacks"] = copy.deepcopy(attacks["arms"]["standard"]["attacks"])
        fields["attacks_audit"] = ["seed 0: gradient masking"] if arm == "pgd_at" else []
        fields["history"][0][0]["attack_success_rate_madry"] = 0.125
    made["config"] |= {name: attacks["config"][name] for name in ("suite", "example")}
    made["warnings"] = ["pgd_at_madry, seed 0: hardly trained: 14.5% clean accuracy"]
    return made


def test_some_records_are_of_format_1():
    assert OLD


@old_records
def test_every_committed_record_is_read_in_the_current_format(path):
    (run,) = reading.collect(path.parent).runs
    assert run.record["format"] == FORMAT and run.raw == path.read_bytes()
    assert list(run.record["arms"]) == [arm["name"] for arm in run.record["config"]["arms"]]
    shown = table.markdown(run.record, [])
    assert all(f"| {arm} |" in shown for arm in run.record["arms"]) and run.record["finding"] in shown
    assert not re.search(r"_madry|\bprinted\b|hardly|Nobody|proxy", json.dumps(run.record))


@old_records
def test_arms_map_one_to_one_and_their_numbers_are_unchanged(path):
    before, after = read(path), upgraded(read(path))
    assert len(after["arms"]) == len(before["arms"])
    for (name, old), (renamed, new) in zip(before["arms"].items(), after["arms"].items(), strict=True):
        known = NAMES.get(re.sub(r"_x\d+$", "_x4", name))
        assert re.sub(r"_x\d+$", "_x4", renamed) == known
        kept = {part: of for part, of in old.items() if part not in MOVED}
        assert dict(numbers(new)) == {
            (at[0].replace("_madry", "_turner"), *at[1:]): number for at, number in numbers(kept)
        }


@old_records
def test_no_number_is_lost_or_made_up(path):
    before, after = read(path), upgraded(read(path))
    for record in (before, after):
        del record["config"], record["format"]
    assert Counter(number for _, number in numbers(before)) == Counter(number for _, number in numbers(after))


@old_records
def test_tables_of_analyses_are_those_of_the_old_report(path):
    report = re.sub(
        r"\d(\.\d+)?e\+\d+", lambda number: f"{float(number[0]):,g}", (path.parent / "report.md").read_text()
    )
    rows = [
        line
        for analysis in upgraded(read(path))["analyses"].values()
        for part in analysis["tables"]
        for line in table.rows(part["header"], part["rows"]).splitlines()
    ]
    names = {new: old for old, new in NAMES.items()}
    for row in rows:
        arm = row.split(" | ")[0].strip("| ")
        assert row.replace(f"| {arm} |", f"| {names.get(arm, arm)} |") in report


def test_the_record_given_is_left_alone_and_the_current_format_is_returned_as_it_is(old):
    before = copy.deepcopy(old)
    new = upgraded(old)
    assert old == before and upgraded(new) is new


@pytest.mark.parametrize(("name", "renamed"), NAMES.items())
def test_names_of_arms_are_replaced_wherever_they_are_words(old, name, renamed):
    made = copy.deepcopy(old)
    (made["arms"], first) = {name: made["arms"]["pgd_at"]}, made["config"]["arms"][0]
    made["config"]["arms"] = [first | {"name": name}]
    made["finding"], made["warnings"], made["reasons"] = (
        f"survives {name} (97%)",
        [f"{name}, seed 0: x"],
        [f"T, {name}"],
    )
    made["comparison"] = [made["comparison"][0] | {"arm": name, "reason": f"see {name}."}]
    made["printed"] = made["verdict"] = {name: {"attack_success_rate_madry[3]": 0.5}}
    new = upgraded(made)
    assert list(new["arms"]) == [renamed] and new["config"]["arms"][0]["name"] == renamed
    assert new["finding"] == f"survives {renamed} (97%)" and new["warnings"] == [f"{renamed}, seed 0: x"]
    assert new["reasons"] == [f"T, {renamed}"] and new["comparison"][0]["arm"] == renamed
    assert new["comparison"][0]["reason"] == f"see {renamed}."
    assert new["reported"] == new["verdict"] == {renamed: {"attack_success_rate_turner[3]": 0.5}}


@pytest.mark.parametrize("word", ["pgd_attack", "my_pgd_at", "pgd_at2", "xpgd_at_madry"])
def test_other_words_are_left_alone(old, word):
    made = copy.deepcopy(old)
    made["finding"] = f"about {word}"
    assert upgraded(made)["finding"] == f"about {word}"


def test_settings_are_where_this_version_has_them(old):
    before, after = old["config"], upgraded(old)["config"]
    assert not after.keys() & {"proxy", "printed", "known", "suite", "example", "activations"}
    assert after["evaluation"]["min_attack_success"] == before["evaluation"]["gate"]
    assert after["caveats"] and len(after["caveats"]) == len(before["known"])
    assert [row["value"] for row in after["reported"]] == [row["value"] for row in before["printed"]]
    assert {row["type"] for row in after["reported"]} == {"Reported"}
    at = {"type": "AdversarialTraining", "eps_warmup": before["train"]["warmup"]}
    assert after["surrogate"]["objective"] == at | {"attack": before["proxy"]["attack"]}
    assert after["surrogate"]["train"]["epochs"] == before["proxy"]["epochs"]
    assert not after["train"].keys() & {"attack", "warmup"}
    for old_arm, arm in zip(before["arms"], after["arms"], strict=True):
        trained = {"attack": old_arm["attack"] or before["train"]["attack"]}
        expected = at | trained if old_arm["adversarial"] else {"type": "Standard", "temperature": 1.0}
        assert arm["objective"] == expected and arm["poisoned"] == old_arm["poisoned"] and arm["defence"] is None
    suite, example = after["analyses"][-1], after["analyses"][-2] if before["example"] else None
    assert suite["type"] == "AttackSuite" and suite["attacks"][0]["type"] == "NamedAttack"
    assert [each["attack"] for each in suite["attacks"]] == [each["attack"] for each in before["suite"]["trials"]]
    assert example == before["example"]


def test_facts_gate_and_analyses_are_where_this_version_has_them(old):
    new = upgraded(old)
    assert [facts["surrogate"] for facts in new["poison"]] == [facts["proxy"] for facts in old["poison"]]
    assert new["attack_gate"] == old["attack_gate"] | {"control": None, "excess": None}
    assert new["analyses"]["attack_suite"]["audit"] == ["pgd_at_as_reported, seed 0: gradient masking"]
    assert new["analyses"]["attack_suite"]["arms"]["pgd_at"] == old["arms"]["pgd_at_madry"]["attacks"]
    assert new["warnings"] == ["pgd_at, seed 0: undertrained: 14.5% clean accuracy"]


@pytest.mark.parametrize("name", ["printed", "arms", "comparison", "attack_gate", "config"])
def test_a_damaged_record_of_format_1_is_refused_in_one_line(old, name, tmp_path):
    for number, made in enumerate(({part: of for part, of in old.items() if part != name}, old | {name: [1]})):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "record.json").write_text(json.dumps(made))
        with pytest.raises(ValueError, match=r"record\.json is damaged: at \$") as error:
            reading.collect(tmp_path / f"{number}")
        assert "\n" not in str(error.value)
