"""What the page and the tables of an audit say, whatever the names of files and classes."""

import json

import numpy as np

from poisonjax.data import from_arrays
from poisonjax.data.near_duplicates import near_duplicates
from poisonjax.reports.audit import page, tables
from poisonjax.reports.audit.findings import Finding, Planted, Report, findings, power, suspicious_rows, verdict

EVIL = '<script>alert("x")</script>'
FACTS = {"networks": {"standard": {"removed": 0, "accuracy": 0.9}}, "settings": {"epochs": 1}}


def dataset():
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(200) % 2
    return from_arrays("npz:x", (images, labels), (images[:4], labels[:4]), ("cat", EVIL))


def report(data, found=(), alike=(), limits=(), planted=()):
    return Report(data, verdict(data, found), found, alike, limits, FACTS, planted)


def made(*rows):
    kept = np.ones(200, bool)
    kept[list(rows)] = False
    return kept, np.where(kept, 0.0, np.arange(200))


def test_findings_are_by_class_and_the_most_suspicious_first():
    first, second = findings(dataset(), {"reveal": made(1, 3, 5, 8)})
    assert (first.label, second.label) == (1, 0)
    np.testing.assert_array_equal(first.rows, [5, 3, 1])
    assert first.of == 100 and first.alarming and first.patch is None


def test_hints_raise_no_alarm():
    found = findings(dataset(), {"masked_disagreement": made(1, 3)})
    said = verdict(dataset(), found)
    assert not said.suspicious and said.sentence == "Nothing was found in 200 training rows."
    assert not len(suspicious_rows(found)) and found


def test_rows_that_two_filters_find_count_once():
    found = findings(dataset(), {"reveal": made(0, 2), "repeated_patch": made(2, 4)})
    assert verdict(dataset(), found).sentence == "3 of 200 training rows look poisoned, all of class cat."
    np.testing.assert_array_equal(suspicious_rows(found), [0, 2, 4])


def test_the_class_of_most_rows_is_named_and_else_all_of_them():
    assert verdict(dataset(), findings(dataset(), {"reveal": made(1, 3, 5, 8)})).sentence.endswith(
        f"4 of 200 training rows look poisoned, 3 of them of class {EVIL}."
    )
    even = verdict(dataset(), findings(dataset(), {"reveal": made(1, 3, 4, 8)})).sentence
    assert "of 2 classes (" in even and EVIL in even and "cat" in even


def test_a_patch_that_most_rows_share_is_told():
    data = dataset()
    data.train.image[:50, 2:5, 3:6] = 77
    (found, _) = findings(data, {"reveal": made(*range(50))})
    assert found.patch is None or found.patch._asdict() == {"top": 2, "left": 3, "size": 3, "rows": 25}


def test_names_are_escaped_in_the_page():
    data = dataset()
    found = findings(data, {"reveal": made(1, 3)})
    html = page.render(report(data, found, near_duplicates(data.train), [EVIL]))
    assert EVIL not in html and "&lt;script&gt;" in html


def test_the_documents_are_valid_and_deterministic():
    data, found = dataset(), [Finding("reveal", 1, np.array([3]), np.array([2.0]), 100, None)]
    texts = [tables.to_json(report(data, found)), tables.to_sarif(data, found), tables.to_csv(data, found)]
    assert texts == [tables.to_json(report(data, found)), tables.to_sarif(data, found), tables.to_csv(data, found)]
    assert json.loads(texts[0])["findings"][0] == {
        "filter": "reveal", "alarm": True, "class": EVIL, "label": 1, "rows": 1, "of": 100, "patch": None,
    }  # fmt: skip
    assert json.loads(texts[1])["version"] == "2.1.0"
    assert texts[2].splitlines()[1].startswith("3,row 3,1,")


def test_near_duplicates_are_in_the_page_and_the_document_and_not_in_the_verdict():
    data = dataset()
    data.train.image[[20, 31, 50]] = data.train.image[7]
    data.train.image[90] = data.train.image[40]
    alike = near_duplicates(data.train)
    document = json.loads(tables.to_json(report(data, alike=alike)))
    assert not document["suspicious"] and document["near_duplicates"] == {
        "distance": 0.03,
        "rows": 6,
        "groups_with_different_labels": 1,
        "groups": [
            {"rows": [7, 20, 31, 50], "files": ["row 7", "row 20", "row 31", "row 50"], "labels": [1, 0, 1, 0]},
            {"rows": [40, 90], "files": ["row 40", "row 90"], "labels": [0, 0]},
        ],
    }
    html = page.render(report(data, alike=alike))
    assert (
        "Label disagreement among near-duplicates: 1 group." in html
        and "rows of classes &lt;script" in html
        and "labels disagree</h3>" in html
    )
    assert html.count("data:image/png") == 6 and "row 50, class cat" in html and EVIL not in html


def test_alarms_carry_the_names_of_atlas_and_owasp():
    data, names = dataset(), ["AML.T0020", "OWASP-LLM04:2025"]
    (log,) = json.loads(tables.to_sarif(data, []))["runs"]
    rules = log["tool"]["driver"]["rules"]
    assert rules and all(rule["properties"]["tags"] == ["security", *names] for rule in rules)
    assert json.loads(tables.to_json(report(data)))["tags"] == names


def test_poison_planted_as_a_test_says_what_would_have_been_found():
    planted = [
        Planted("BadNets(0.01, 0)", 10, 0.95, {"repeated_patch": 9, "reveal": 0}),
        Planted("BadNets(0.01, 0, Blend(.2))", 10, 0.5, {"repeated_patch": 0, "reveal": 8}),
    ]
    assert power(planted).endswith("at least 90% of its rows in 1 of 2 tests.")
    html = page.render(report(dataset(), planted=planted))
    assert power(planted) in html and "<code>BadNets(0.01, 0, Blend(.2))</code>" in html
    assert [each["found"] for each in json.loads(tables.to_json(report(dataset(), planted=planted)))["planted"]] == [
        True,
        False,
    ]
    assert "What would have been found" not in page.render(report(dataset()))
