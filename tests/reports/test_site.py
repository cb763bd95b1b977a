"""The site says what the records say, and nothing else."""

import csv
import io
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from poisonjax.reports import __main__ as command
from poisonjax.reports import answer, style, table
from poisonjax.reports import record as written_record
from poisonjax.reports.site import charts, folder, pages, reading, views
from poisonjax.reports.site.numbers import flat
from poisonjax.reports.upgrade import upgraded
from tests.reports import records as synthetic

ROOT = pathlib.Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}&amp;$\\frac$"
VOID = {"meta", "link", "br", "img", "input", "wbr"}


class Page(HTMLParser):
    """What a page consists of. wrong: tags that do not match, and ids given twice."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.tags, self.wrong, self.cells, self._open = [], [], [], [], [], []
        self.feed(text)
        self.close()
        self.wrong += [f"<{tag}> is not closed" for tag in self._open]
        self.wrong += sorted({f"id {name} twice" for name in self.ids if self.ids.count(name) > 1})
        self.text = " ".join("".join(self.cells).split())

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.cells.append("" if tag == "wbr" else " ")
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        self.links += [value for name, value in attributes if name in ("href", "xlink:href", "src", "srcset", "action")]

    def handle_endtag(self, tag):
        self.cells.append(" ")
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"</{tag}> closes something else at {self.getpos()}")

    def handle_data(self, data):
        self.cells.append(data)


def build(records: pathlib.Path, out: pathlib.Path) -> dict[str, bytes]:
    """{path: content} of the site."""
    folder.write(records, out)
    return tree(out)


def tree(out: pathlib.Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def parsed(site: dict[str, bytes]) -> dict[str, Page]:
    return {path: Page(content.decode()) for path, content in site.items() if path.endswith(".html")}


def old_record() -> dict:
    """As the first version wrote it, in format 1."""
    row = {"arm": "standard", "metric": "attack_success_rate", "reported": 0.9622}
    made = synthetic.record("mnist_old", "smoke", reported=[row])
    made["format"], made["printed"] = 1, made.pop("reported")
    del made["command"], made["analyses"], made["attack_gate"]["control"], made["attack_gate"]["excess"]
    made["config"]["arms"] = [
        {"type": "Arm", "name": arm, "adversarial": arm != "standard", "poisoned": True} for arm in made["arms"]
    ]
    made["config"]["evaluation"] = {"type": "Evaluation", "gate": 0.5, "tolerance": 0.02}
    for arm in made["arms"].values():
        del arm["parameters"]
    for row in made["comparison"]:
        row["printed"] = row.pop("reported")
        del row["label"], row["reason"], row["std"], row["ci95"]
    return made


def paper_record() -> dict:
    """Three seeds, every verdict, a number about one class, two analyses."""
    rows = [
        {"arm": "standard", "metric": "attack_success_rate", "reported": 0.9622, "verdict": "reproduced"},
        {
            "arm": "pgd_at",
            "metric": "attack_success_rate",
            "reported": 0.0099,
            "verdict": "not_reproduced",
            "reason": "Why.",
        },
        {"arm": "pgd_at", "metric": "clean_accuracy", "reported": 0.9418, "reason": "One class.", "label": 0},
    ]
    made = synthetic.record("mnist_paper", "paper", 3, reported=rows)
    made["changed"], made["warnings"] = ["train.epochs=4"], ["pgd_at, seed 1: collapsed to one class"]
    mmd2 = {"mean": 0.03125, "std": 0.001, "per_seed": [0.031, 0.03125, 0.0315]}
    attacks = [[arm, "autoattack", "40.62 ± 1.00", "1,910"] for arm in made["arms"]]
    suites = {arm: {"autoattack": under_attack()} for arm in made["arms"]}
    made["analyses"] = {
        "activations": synthetic.analysis("Activations", {arm: {"mmd2": mmd2} for arm in made["arms"]}),
        "attack_suite": synthetic.analysis("Attacks", suites, [(ATTACKS, attacks)], ["Doubtful."]),
    }
    return made


ATTACKS = ["arm", "attack", "robust accuracy %", "gradients"]


def under_attack() -> dict:
    """What a record holds of one attack that has a stage, over three seeds."""
    spread = {"mean": 0.40625, "std": 0.01, "per_seed": [0.4, 0.40625, 0.4125]}
    measured = dict.fromkeys(("robust_accuracy", "median_l2", "median_linf", "images_per_second"), spread)
    return measured | {"images": 32, "gradients": 1910, "queries": 5909, "stages": {"apgd_ce": spread}}


def point(rate: float) -> dict:
    return synthetic.record("mnist_badnets", "small", 2, {"standard": {"attack_success_rate": rate}, "pgd_at": {}})


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> pathlib.Path:
    """Records of every kind, and sweeps over one, two and three axes."""
    there = tmp_path_factory.mktemp("records")
    synthetic.save(there / "paper", paper_record(), ("images.png", "curves.png", "own drawing.png"))
    synthetic.save(there / "old" / "smoke", old_record())
    rates = {"standard": {"clean_accuracy": 0.92}, "pgd_at": {"clean_accuracy": 0.79}}
    synthetic.save(there / "defended", synthetic.defended_record())
    synthetic.save(there / "clean", synthetic.record("cifar10_clean", rates=rates, poisoned=False))
    synthetic.save(there / "many", synthetic.record("capacity", rates={f"arm_{at}": {} for at in range(12)}))
    one = [
        ({"poison.rate": "0.1"}, point(0.9)),
        ({"poison.rate": "0.01"}, point(0.2)),
        ({"poison.rate": "0.2"}, "Broke."),
    ]
    synthetic.save_sweep(there / "sweeps" / "one", {"poison.rate": ["0.01", "0.1", "0.2"]}, one)
    axes = {"poison.rate": ["0.01", "0.1"], "poison.trigger.amplitude": ["2/255", "0.1", "0.3"]}
    at = [
        dict(zip(axes, values, strict=True))
        for values in (("0.1", "2/255"), ("0.01", "0.3"), ("0.01", "0.1"), ("0.1", "0.3"))
    ]
    synthetic.save_sweep(
        there / "sweeps" / "two", axes, list(zip(at, (point(0.7), point(0.3), "Broke.", None), strict=True))
    )
    synthetic.save_evaluation(there / "paper" / "evaluations" / "auto", synthetic.evaluation(paper_record()))
    three = {"a": ["1"], "b": ["2"], "c": ["3"]}
    synthetic.save_sweep(there / "sweeps" / "three", three, [({"a": "1", "b": "2", "c": "3"}, point(0.5))])
    return there


@pytest.fixture
def undrawn(monkeypatch):
    """No curves and heat maps, which take most of the time, where a test is about something else."""
    monkeypatch.setattr(charts, "curves", lambda record: {})
    monkeypatch.setattr(charts, "swept", lambda sweep: {})


@pytest.fixture(scope="module")
def site(records, tmp_path_factory) -> dict[str, bytes]:
    return build(records, tmp_path_factory.mktemp("out") / "site")


def test_same_records_elsewhere_give_the_same_bytes(records, tmp_path):
    shutil.copytree(records / "paper", tmp_path / "records" / "paper")  # with pictures and an evaluation
    synthetic.save_sweep(tmp_path / "records" / "sweep", {"a": ["1"], "b": ["2"]}, [({"a": "1", "b": "2"}, point(0.7))])
    site = build(tmp_path / "records", tmp_path / "one")
    copy = shutil.copytree(tmp_path / "records", tmp_path / "else" / "where")
    words = [sys.executable, "-m", "poisonjax.reports", "site", "--records", str(copy), "--out", str(tmp_path / "two")]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True)
    again = tree(tmp_path / "two")
    assert again.keys() == site.keys() >= {"sweeps/sweep.html", "records/paper.html", "evaluations.html"}
    assert [path for path in site if site[path] != again[path]] == []
    assert not any(str(tmp_path).encode() in content for content in again.values())


def read(path: pathlib.Path) -> dict:
    """A record as readers have it."""
    return upgraded(json.loads(path.read_bytes()))


def test_json_is_every_record_and_sweep(records, site):
    whole = json.loads(site["numbers.json"])
    there = {path.parent.relative_to(records).as_posix(): read(path) for path in records.rglob("record.json")}
    assert {entry["path"]: entry["record"] for entry in whole["records"]} == there
    sweeps = {
        path.parent.relative_to(records).as_posix(): json.loads(path.read_bytes())
        for path in records.rglob("sweep.json")
    }
    assert {entry["path"]: entry["sweep"] for entry in whole["sweeps"]} == sweeps
    assert {len(entry["records"]) for entry in whole["sweeps"]} == {1, 2}
    (evaluation,) = whole["evaluations"]
    assert evaluation == {"path": "paper/evaluations/auto", "evaluation": synthetic.evaluation(paper_record())}


def expected_cells(record: dict) -> set[tuple]:
    """(kind, arm, metric, class, seed, epoch, column, number) of everything that was measured."""
    cells = set()

    def put(kind, arm="", metric="", label="", seed="", epoch="", **columns):
        cells.update((kind, arm, metric, label, seed, epoch, *each) for each in columns.items() if each[1] is not None)

    for arm, fields in record["arms"].items():
        for metric, cell in fields.items():
            if isinstance(cell, dict) and "numerator" in cell:
                low, high = cell["ci95"] or (None, None)
                put("mean", arm, metric, value=cell["mean"], std=cell["std"], ci95_low=low, ci95_high=high)
                for at, seed in enumerate(record["seeds"]):
                    low, high = cell["wilson95"][at] or (None, None)
                    put("seed", arm, metric, "", seed, value=cell["per_seed"][at], ci95_low=low, ci95_high=high)
                    put(
                        "seed", arm, metric, "", seed, **{part: cell[part][at] for part in ("numerator", "denominator")}
                    )
                    for part, of in cell["per_class"].items():
                        for label, count in enumerate(of[at]):
                            put("class", arm, metric, label, seed, **{part: count})
            elif isinstance(cell, int | float):
                put("network", arm, metric, value=cell)
        for seed, history in zip(record["seeds"], fields["history"], strict=True):
            for row in history:
                for name in row.keys() - {"epoch"}:
                    put("history", arm, name, "", seed, row["epoch"], value=row[name])
    for name, analysis in record["analyses"].items():
        for arm, summary in analysis["arms"].items():
            for path, cell in flat(summary, name).items():
                *parent, last = path.split(".")
                if last in ("mean", "std"):
                    put("mean", arm, ".".join(parent), **{"value" if last == "mean" else "std": cell})
                elif last == "per_seed":
                    for seed, value in zip(record["seeds"], cell, strict=True):
                        put("seed", arm, ".".join(parent), "", seed, value=value)
                elif not isinstance(cell, bool | str):
                    put("analysis", arm, path, value=cell)
    for row in record["comparison"]:
        low, high = row.get("ci95") or (None, None)
        label = "" if row.get("label") is None else row["label"]
        told = {"reported": row["reported"], "value": row["measured"], "std": row.get("std")}
        put("reported", row["arm"], row["metric"], label, **told, ci95_low=low, ci95_high=high)
    for seed, facts in zip(record["seeds"], record["poison"], strict=True):
        for name, value in facts.items():
            put("poison", "", name, "", seed, value=value)
    for name in ("asr", "control", "excess", "threshold"):
        put("gate", "", name, value=(record["attack_gate"] or {}).get(name))
    for name in ("train", "test"):
        put("dataset", "", name, value=record["dataset"][name])
    return cells


NUMBERS = ("value", "std", "ci95_low", "ci95_high", "numerator", "denominator", "reported")


def csv_cells(rows: list[dict]) -> set[tuple]:
    """The same, of the rows of the CSV."""

    def number(text: str) -> float | str:
        return text if text == "" else float(text)

    places = {
        at: (row["kind"], row["arm"], row["metric"], *(number(row[name]) for name in ("class", "seed", "epoch")))
        for at, row in enumerate(rows)
    }
    told = [(at, name, row[name]) for at, row in enumerate(rows) for name in NUMBERS]
    return {(*places[at], name, number(text)) for at, name, text in told if text not in ("", "True", "False")}


def test_csv_is_every_measured_number(records, site):
    rows = list(csv.DictReader(io.StringIO(site["numbers.csv"].decode())))
    paths = sorted(path.parent.relative_to(records).as_posix() for path in records.rglob("record.json"))
    assert sorted({row["record"] for row in rows if row["kind"] != "evaluation"}) == paths
    for path in paths:
        record = read(records / path / "record.json")
        mine = [row for row in rows if row["record"] == path]
        assert csv_cells(mine) == expected_cells(record), path
        assert {(row["experiment"], row["scale"]) for row in mine} == {(record["experiment"], record["scale"])}


def test_an_analysis_that_no_reader_knows_is_in_the_csv(site):
    rows = list(csv.DictReader(io.StringIO(site["numbers.csv"].decode())))
    mine = [(row["kind"], row["arm"], row["metric"], row["value"]) for row in rows if "depths" in row["metric"]]
    assert mine == [
        ("mean", "standard", "depths.depth.layers", "3.5"),
        ("seed", "standard", "depths.depth.layers", "3.5"),
        ("analysis", "standard", "depths.depth.count", "7"),
    ]


def test_nothing_is_loaded_from_elsewhere_and_every_link_has_a_target(site):
    found = parsed(site)
    for path, page in found.items():
        here = pathlib.PurePosixPath(path).parent
        for link in page.links:
            assert not re.match(r"(?i)(https?:|//|file:)", link), (path, link)
            target, _, place = link.partition("#")
            if link.startswith("data:image/svg+xml,"):
                continue
            goal = os.path.normpath(here / target).replace(os.sep, "/") if target else path
            assert goal in site, (path, link)
            assert not place or place in found[goal].ids, (path, link)
    for path in ("static/site.css", "static/site.js"):
        assert not re.search(rb"https?:|//\w|@import|url\(|fetch|XMLHttp|innerHTML", site[path]), path


def test_html_is_well_formed(site):
    assert {path: page.wrong for path, page in parsed(site).items() if page.wrong} == {}


def test_text_of_a_record_is_escaped(tmp_path):
    made = synthetic.record(HOSTILE, "small", 1, {"standard": {}, HOSTILE: {}}, [])
    made["comparison"] = [synthetic.compared(made["arms"], HOSTILE, "clean_accuracy", 0.5, HOSTILE, HOSTILE)]
    made["comparison"][0]["table"] = HOSTILE
    for name in ("title", "finding", "command", "paper_table"):
        made[name] = HOSTILE
    for name in ("changed", "warnings", "reasons"):
        made[name] = [HOSTILE]
    made["dataset"]["name"] = made["environment"]["device"] = made["environment"][HOSTILE] = HOSTILE
    made["poison"], made["config"][HOSTILE] = [{HOSTILE: HOSTILE}], {HOSTILE: HOSTILE}
    made["arms"]["standard"]["history"][0][0][HOSTILE] = 1.0
    made["config"]["arms"][0] |= {"objective": {"type": HOSTILE}, "defence": {"type": HOSTILE}}
    spread = {"mean": 0.5, "std": None, "per_seed": [0.5]}
    made["analyses"] = {
        HOSTILE: synthetic.analysis(HOSTILE, {HOSTILE: {HOSTILE: spread}}, [([HOSTILE], [[HOSTILE]])], [HOSTILE])
    }
    made["analyses"][HOSTILE]["tables"][0] |= {"title": HOSTILE, "notes": [HOSTILE]}
    synthetic.save(tmp_path / "records" / "a <b>#?%41 'c'", made, ("<i>&.png",))
    axes = {HOSTILE: [HOSTILE], "b": ["2"]}
    synthetic.save_sweep(tmp_path / "records" / "s", axes, [({HOSTILE: HOSTILE, "b": "2"}, HOSTILE)])
    synthetic.save_sweep(tmp_path / "records" / "t", {HOSTILE: ["1"]}, [({HOSTILE: "1"}, made)])
    attack, stages = {"type": HOSTILE, "ball": {"type": HOSTILE}, HOSTILE: HOSTILE}, {HOSTILE: 0.5}
    judged = synthetic.evaluation(made, HOSTILE, attack=attack, stages=stages, audit=[HOSTILE], command=HOSTILE)
    synthetic.save_evaluation(tmp_path / "records" / "e<b>", judged)
    site = build(tmp_path / "records", tmp_path / "site")
    test_nothing_is_loaded_from_elsewhere_and_every_link_has_a_target(site)
    test_html_is_well_formed(site)
    assert {"evaluations.html", "reproduction.html", "sweeps.html"} <= site.keys()
    for path, page in parsed(site).items():
        assert [tag for tag, _ in page.tags].count("script") == 1, path
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes), path
        assert HOSTILE in page.text, path


def rows_of(page: str, table: str) -> list[str]:
    """The rows of a table as text, its heading first."""
    found = re.search(rf'<table id="{table}".*?</table>', page, re.DOTALL)[0]
    return [Page(row).text for row in re.findall(r"<tr.*?</tr>", found, re.DOTALL)]


def test_a_page_has_the_tables_and_doubts_of_every_analysis(site):
    page = site["records/paper.html"].decode()
    assert rows_of(page, "table-analysis-1-1") == [
        "arm attack robust accuracy % gradients",
        *(f"{arm} autoattack 40.62 ± 1.00 1,910" for arm in synthetic.ARMS),
    ]
    assert "<h2>Activations</h2>" not in page, "an analysis without tables has no section"
    assert "Doubtful." in Page(page).text
    assert 'data-sort="1910.0"' in page and 'data-sort="40.62"' in page, "numbers are sorted as numbers"


def test_an_analysis_that_no_reader_knows_is_on_the_page(site):
    page = site["records/defended.html"].decode()
    assert "<h2>Depths</h2>" in page and "<h2>Silent</h2>" not in page and "A note." in Page(page).text
    assert rows_of(page, "table-analysis-1-1") == ["arm depth", "standard 3.5", "filter –"]


def test_types_of_the_users_own_are_on_the_page(site):
    page = site["records/defended.html"].decode()
    rows = rows_of(page, "table-networks")
    assert any(row.startswith("standard Standard – yes ") for row in rows)
    filtered = "filter AdversarialTraining (PGD, Linf 0.3) experiments.mine:Filter yes "
    assert any(row.startswith(filtered) for row in rows)
    own = "detector experiments.mine:Mixed (experiments.mine:Noise) – yes "
    assert any(row.startswith(own) for row in rows)
    assert "poison.trigger experiments.mine:Sinus" in rows_of(page, "table-settings")


def test_removed_rows_and_rejected_images_are_on_the_page_with_their_counts(site):
    page, arms = site["records/defended.html"].decode(), synthetic.defended_record()["arms"]
    header, filtered, detector = rows_of(page, "table-detections")
    assert "removed (TPR) %" in header and "removed (FPR) %" in header and "triggered images rejected %" in header
    for row, arm, names in (
        (filtered, "filter", ("poisoned_rows_removed", "clean_rows_removed")),
        (detector, "detector", ("clean_rejection_rate", "triggered_rejection_rate", "adversarial_rejection_rate")),
    ):
        for name in names:
            cell = arms[arm][name]
            assert f"{100 * cell['mean']:.2f} [" in row
            assert f"({cell['numerator'][0]}/{cell['denominator'][0]})" in row
    assert "area under the ROC curve %" in header and "at 1% false positives %" in header and "at 5%" not in header
    assert filtered.endswith("87.50 50.00") and detector.endswith("– –")
    assert "table-detections" not in site["records/paper.html"].decode()
    metrics = rows_of(page, "table-metrics")
    for told in ("detector AutoAttack accuracy", "detector novel metric", "filter poisoned rows removed"):
        assert any(row.startswith(told) for row in metrics), told


def test_numbers_that_mean_nothing_are_marked(site):
    page = site["records/defended.html"].decode()
    metrics = rows_of(page, "table-metrics")[1:]
    assert all(table.VOID in row for row in metrics if row.startswith("filter"))
    gated = [row for row in metrics if row.startswith("standard") and table.GATED in row]
    assert any("attack success rate" in row for row in gated) and not any("clean accuracy" in row for row in gated)
    for sign, meaning in table.MARKS.items():
        assert f"{sign} {meaning}" in Page(page).text
    clean = site["records/clean.html"].decode()
    assert not any(sign in Page(clean).text for sign in table.MARKS)


def test_the_gate_is_shown_with_its_control(site):
    text = Page(site["records/defended.html"].decode()).text
    assert "Attack gate failed: attack success rate 40.00% after standard training, 10.00% on clean data" in text
    assert "excess 33.33% of what the control leaves; at least 50.00% needed." in text
    old = Page(site["records/old__smoke.html"].decode()).text
    assert "attack success rate 90.00% after standard training, no control on clean data; at least 50.00%" in old


def claims(page: str, kind: str = "claims") -> list[str]:
    """The rows of all tables of the page of verdicts."""
    ids = re.findall(f'id="(table-{kind}-\\d+)"', page)
    return [row for each in ids for row in rows_of(page, each)[1:]]


def test_every_reported_number_is_beside_ours_with_its_verdict_and_its_record(records, site):
    page = site["reproduction.html"].decode()
    rows = claims(page)
    cell = json.loads((records / "paper" / "record.json").read_bytes())["arms"]["pgd_at"]["attack_success_rate"]
    low, high = cell["ci95"]
    ours = f"{100 * cell['mean']:.2f} ± {100 * cell['std']:.2f} {table.VOID} {100 * low:.2f} to {100 * high:.2f}"
    told = "mnist_paper , paper, 3 seeds changed"
    assert f"pgd_at attack success rate 0.99 {ours} not reproduced Why. {told}" in rows
    assert any(re.search(r"pgd_at clean accuracy, class 0 94.18 .* inconclusive One class. ", row) for row in rows)
    assert any(
        re.search(r"standard attack success rate 96.22 .* on its page mnist_old , smoke, 1 seed$", row) for row in rows
    )
    assert len(rows) == 4
    assert rows_of(page, "table-verdicts")[1:] == [
        "T6 What mnist_old is about. What mnist_paper is about. 1 reproduced 1 not reproduced 2 inconclusive"
    ]
    assert "1 reproduced 1 not reproduced 2 inconclusive" in Page(page).text


def measured_at(scale: str, seeds: int = 1, changed=(), verdict: str = "inconclusive", table: str = "T6") -> dict:
    row = {"arm": "pgd_at", "metric": "attack_success_rate", "reported": 0.0099, "verdict": verdict}
    made = synthetic.record("mnist_badnets", scale, seeds, reported=[row])
    made["changed"], made["comparison"][0]["table"] = list(changed), table
    return made


@pytest.mark.usefixtures("undrawn")
def test_the_largest_record_of_the_published_settings_decides(tmp_path):
    made = {
        "changed": measured_at("paper", 9, ["train.epochs=1"], "reproduced"),
        "small": measured_at("small", 9, verdict="reproduced"),
        "full": measured_at("full", 1, verdict="reproduced"),
        "seeds": measured_at("full", 2, verdict="not_reproduced"),
    }
    for name, record in made.items():
        synthetic.save(tmp_path / "records" / name, record)
    page = build(tmp_path / "records", tmp_path / "site")["reproduction.html"].decode()
    (row,) = claims(page)
    assert "not reproduced" in row and row.endswith("mnist_badnets , full, 2 seeds")
    others = [row.rpartition("mnist_badnets , ")[2] for row in claims(page, "others")]
    assert others == ["full, 1 seed", "small, 9 seeds", "paper, 9 seeds changed"]
    assert rows_of(page, "table-verdicts")[1:] == ["T6 What mnist_badnets is about. 1 not reproduced"]


@pytest.mark.usefixtures("undrawn")
def test_tables_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("T10", "T2", "4.2"):
        synthetic.save(tmp_path / "records" / name, measured_at("small", table=name))
    page = build(tmp_path / "records", tmp_path / "site")["reproduction.html"].decode()
    assert [row.split()[0] for row in rows_of(page, "table-verdicts")[1:]] == ["4.2", "T2", "T10"]


def test_the_main_table_has_a_row_for_each_network_with_what_was_reported(site):
    rows = rows_of(site["index.html"].decode(), "table-numbers")
    assert rows[0].endswith(
        "clean accuracy % triggered accuracy % attack success rate % PGD accuracy % AutoAttack accuracy %"
    )
    assert sum(row.startswith("mnist_paper paper, 3 seeds changed") for row in rows) == 3
    (row,) = [row for row in rows if row.startswith("mnist_paper paper, 3 seeds changed standard")]
    assert re.search(r" 91.65 ± 1.03 [\d.]+ to [\d.]+ T6 reports 96.22 ", row) and row.count("reports") == 1
    own = rows_of(site["records/paper.html"].decode(), "table-results")
    assert any(each.startswith("standard ") and "T6 reports 96.22" in each for each in own)


FATES = {  # attack success after pgd_at and the filter; warnings; gate; their fates
    "one": ((0.85, 0.9), [], synthetic.gate(0.9, 0.02), ("survives", "survives")),
    "two": ((0.3, 0.04), [], synthetic.gate(0.9, 0.02), ("weakened", "removed")),
    "three": ((0.04, 0.9), [], synthetic.gate(0.9, 0.02), ("removed", "survives")),
    "four": ((0.3, 0.3), [], synthetic.gate(0.2, 0.02), ("attack failed", "attack failed")),
    "five": ((0.3, 0.3), ["standard, seed 0: collapsed"], synthetic.gate(0.9, 0.02), ("void", "void")),
}


def judged(name: str) -> dict:
    """A record in which this becomes of the backdoor."""
    (pgd_at, filtered), warnings, gate, _ = FATES[name]
    rates = {"standard": gate["asr"], "pgd_at": pgd_at, "filter": filtered, "pgd_at_clean_data": 0.02}
    parts = {"filter": {"defence": {"type": "mine:Filter"}}, "pgd_at_clean_data": {"poisoned": False}}
    rates = {arm: {"attack_success_rate": rate} for arm, rate in rates.items()}
    made = synthetic.record(name, rates=rates, parts=parts)
    made["config"]["model"]["type"] = f"mine:Net{name.capitalize()}"
    made["warnings"], made["attack_gate"] = warnings, gate
    return made


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> dict[str, bytes]:
    """A site with every fate, of records without reported numbers."""
    there = tmp_path_factory.mktemp("answered")
    for name in FATES:
        synthetic.save(there / "records" / name, judged(name), ("results.png", "images.png", "curves.png"))
    return build(there / "records", there / "site")


@pytest.mark.parametrize("name", FATES)
def test_the_matrix_has_the_rates_and_the_fate_of_each_record(name, answered):
    network = f"Net{name.capitalize()}"
    page = answered["index.html"].decode()
    found = re.search(rf'<tr><th scope="row">{network}<.*?</tr>', page, re.DOTALL)[0]
    cells = {arm: 100 * fields["attack_success_rate"]["mean"] for arm, fields in judged(name)["arms"].items()}
    fate, of_best = FATES[name][3]
    assert re.findall(r'<a class="case ([^"]*)" href="([^"]*)">', found) == [
        (fate.replace(" ", "-"), f"records/{name}.html")
    ]
    also = "" if of_best == fate else f" {answer.SIGNS[of_best]} {of_best}"
    of_best = f"{cells['filter']:.2f} filter{also}" if fate != "void" else "–"
    told = [
        f"{network} mnist_5k {answer.SIGNS[fate]} {fate} all-to-all small, 1 seed",
        f"standard {cells['standard']:.2f} PGD-AT {cells['pgd_at']:.2f}",
        f"best other {of_best}",
        f"control {cells['pgd_at_clean_data']:.2f}",
    ]
    assert Page(found).text == " ".join(told)


@pytest.mark.usefixtures("undrawn")
def test_rates_of_a_poison_that_lowers_accuracy_are_clean_accuracies(tmp_path):
    synthetic.save(tmp_path / "records" / "spoilt", synthetic.spoilt_record())
    pages = build(tmp_path / "records", tmp_path / "site")
    page, own = pages["index.html"].decode(), Page(pages["records/spoilt.html"].decode()).text
    (cell,) = re.findall(r'<a class="case .*?</a>', page, re.DOTALL)
    accuracies = {arm: 100 * of["clean_accuracy"]["mean"] for arm, of in synthetic.spoilt_record()["arms"].items()}
    assert "removed clean accuracy small, 1 seed" in Page(cell).text
    assert f"standard {accuracies['standard']:.2f} PGD-AT {accuracies['pgd_at']:.2f}" in Page(cell).text
    assert f"control {accuracies['pgd_at_clean_data']:.2f}" in Page(cell).text
    assert "removes the loss of accuracy" in Page(page).text and "Attack success rates in" not in Page(page).text
    assert "Attack gate passed: clean accuracy 20.00% after standard training" in own


@pytest.mark.usefixtures("undrawn")
def test_an_aim_of_an_unknown_metric_is_refused(tmp_path):
    made = synthetic.spoilt_record()
    made["aim"]["metric"] = "novel_metric"
    synthetic.save(tmp_path / "records" / "spoilt", made)
    with pytest.raises(ValueError, match="novel_metric"):
        build(tmp_path / "records", tmp_path / "site")


def test_the_answer_has_a_sentence_for_each_fate_that_names_its_networks(answered):
    page = answered["index.html"].decode()
    said = [Page(each).text for each in re.findall(r'<p class="sentence.*?</p>', page, re.DOTALL)]
    assert [each.split()[1] for each in said] == ["survives", "weakened", "removed", "attack", "void", "removed"]
    assert "filter removes the backdoor in NetTwo" in said.pop()  # what the defence in question does not remove
    for sentence, name in zip(said, FATES, strict=True):
        assert f"in Net{name.capitalize()} on mnist_5k (all-to-all BadNets" in sentence
        assert sum(f"Net{other.capitalize()} " in sentence for other in FATES) == 1
    assert "**" not in Page(page).text and "<strong>does not remove</strong>" in page
    legend = Page(re.search(r'<ul class="legend".*?</ul>', page, re.DOTALL)[0]).text
    assert all(f"{answer.SIGNS[fate]} {fate} {meaning}" in legend for fate, meaning in answer.MEANINGS.items())


@pytest.mark.usefixtures("undrawn")
def test_the_answer_names_the_defence_that_it_is_about(tmp_path):
    rates = {"standard": 0.9, "filter": 0.03, "clean": 0.02}
    plain = {"objective": {"type": "Standard"}}
    parts = {"filter": plain | {"defence": {"type": "mine:Filter"}}, "clean": plain | {"poisoned": False}}
    made = synthetic.record(rates={arm: {"attack_success_rate": rate} for arm, rate in rates.items()}, parts=parts)
    synthetic.save(tmp_path / "records", made)
    text = Page(build(tmp_path / "records", tmp_path / "site")["index.html"].decode()).text
    filtered = f"filter {100 * made['arms']['filter']['attack_success_rate']['mean']:.2f} best other –"
    assert "filter removes the backdoor in WongCNN" in text and filtered in text
    assert "PGD adversarial training" not in text


def test_the_first_page_has_three_pictures(answered):
    page = Page(answered["index.html"].decode())
    assert [attributes["src"] for tag, attributes in page.tags if tag == "img"] == [
        "figures/five/images.png",
        "figures/five/results.png",
    ]
    (drawn,) = [attributes["aria-label"] for tag, attributes in page.tags if attributes.get("role") == "img"]
    assert drawn == "attack success rate, test by epoch"


def test_a_site_of_other_records_speaks_of_them(answered, site):
    for path, page in parsed(answered).items():
        for told in (pages.REPORT["title"], pages.REPORT["authors"], "Does adversarial training defend"):
            assert told not in page.text, path
    assert "reproduction.html" not in answered
    assert "<h1>Results of five, four, one and 2 more</h1>" in answered["index.html"].decode()
    assert pages.REPORT["title"] in Page(site["index.html"].decode()).text
    assert "<h1>Does adversarial training defend against poisoned data?</h1>" in site["index.html"].decode()


@pytest.mark.usefixtures("undrawn")
def test_numbers_of_another_report_are_not_those_of_this_one(tmp_path):
    synthetic.save(tmp_path / "records", measured_at("small", table="4.2"))
    site = build(tmp_path / "records", tmp_path / "site")
    assert len(claims(site["reproduction.html"].decode())) == 1
    assert not any(pages.REPORT["title"] in page.text for page in parsed(site).values())
    assert "<h1>Results of mnist_badnets</h1>" in site["index.html"].decode()


@pytest.mark.usefixtures("undrawn")
def test_records_without_an_answer_show_their_findings(tmp_path):
    synthetic.save(tmp_path / "records", synthetic.record("clean", poisoned=False))
    page = build(tmp_path / "records", tmp_path / "site")["index.html"].decode()
    assert 'class="matrix"' not in page and "<details>" not in page and "The finding of clean" in Page(page).text


def test_an_evaluation_has_a_page_with_stages_budget_and_audit(site):
    page = site["evaluations/paper__evaluations__auto.html"].decode()
    assert rows_of(page, "table-stages")[1:] == [
        "without attack 97.50 91.34 to 99.31",
        "after apgd_ce 62.50",
        "after square 50.00",
        "robust accuracy 50.00 39.30 to 60.70",
    ]
    text = Page(page).text
    for told in (
        "50.00% of 80 test images are classified correctly under AutoAttack (Linf 0.3); 97.50% without attack.",
        "gradients per image, at most 1910 queries per image, at most 5909 images/s 41.5 attack AutoAttack",
        "attack.ball Linf attack.ball.eps 0.3 attack.steps 100 attack.queries 5000",
        "Attack success rate of the trigger that the run was poisoned with: 87.50% (63/72, ",
        "The gradients may be masked.",
        "Linf –, L2 3.25",
        "poisonjax evaluate --arm=pgd_at",
    ):
        assert told in text, told
    row = "mnist_paper, paper: pgd_at, seed 0 AutoAttack Linf 0.3 80 97.50 91.34 to 99.31 50.00 39.30 to 60.70 87.50 "
    for listed in ("evaluations.html", "records/paper.html"):
        (found,) = rows_of(site[listed].decode(), "table-evaluations")[1:]
        assert found.startswith(row) and found.endswith(" 1,910 5,909 1"), listed
    assert "table-evaluations" not in site["records/defended.html"].decode()
    assert "../records/paper.html" in Page(page).links
    assert site["evaluations/paper__evaluations__auto.json"]


def test_an_evaluation_is_in_the_csv(site):
    rows = list(csv.DictReader(io.StringIO(site["numbers.csv"].decode())))
    mine = {row["metric"]: row for row in rows if row["kind"] == "evaluation"}
    values = {name: float(row["value"]) for name, row in mine.items() if row["value"]}
    made = synthetic.evaluation(paper_record())
    counted = {name: made[name][0] / made[name][1] for name in ("clean", "robust", "attack_success_rate")}
    costs = {name: made[name] for name in ("median_l2", "gradients", "queries", "images_per_second")}
    assert values == counted | costs | {f"stages.{name}": left for name, left in made["stages"].items()}
    assert (mine["robust"]["numerator"], mine["robust"]["denominator"]) == ("40", "80")
    assert {(row["record"], row["experiment"], row["arm"], row["seed"]) for row in mine.values()} == {
        ("paper/evaluations/auto", "mnist_paper", "pgd_at", "0")
    }


def test_an_evaluation_elsewhere_finds_its_run_by_settings_and_data(tmp_path):
    made = synthetic.record()
    other = synthetic.evaluation(made)
    other["dataset"] = other["dataset"] | {"sha256": "0b" * 32}
    synthetic.save(tmp_path / "runs" / "run", made)
    synthetic.save_evaluation(tmp_path / "elsewhere" / "same", synthetic.evaluation(made))
    synthetic.save_evaluation(tmp_path / "elsewhere" / "other", other)
    found = {each.path.name: each.run for each in reading.collect(tmp_path).evaluations}
    assert found["same"].path == pathlib.PurePosixPath("runs/run") and found["other"] is None


def test_evaluations_alone_make_a_site(tmp_path):
    made = synthetic.evaluation(synthetic.record(), arm="pgd_at_madry", format=1, attack={"type": "FAB", "norm": "L2"})
    del made["attack_success_rate"]  # format 1 had none
    synthetic.save_evaluation(tmp_path / "records" / "fab", made)
    site = build(tmp_path / "records", tmp_path / "site")
    assert {"index.html", "evaluations.html", "evaluations/fab.html"} <= site.keys()
    assert "pgd_at, seed 0" in rows_of(site["evaluations.html"].decode(), "table-evaluations")[1]
    assert "smallest L2" in Page(site["evaluations/fab.html"].decode()).text
    test_nothing_is_loaded_from_elsewhere_and_every_link_has_a_target(site)


def test_every_page_has_a_card_for_those_who_share_it(site):
    told = {}
    for path, page in parsed(site).items():
        meta = {of.get("name") or of.get("property"): of.get("content") for tag, of in page.tags if tag == "meta"}
        assert meta["og:title"] and meta["og:title"] in page.text
        assert meta["description"] == meta["og:description"] and 10 < len(meta["description"]) <= pages.DESCRIPTION
        assert meta["twitter:card"] == "summary" and meta["og:type"] == "website"
        assert any(of.get("rel") == "icon" and "svg" in of["href"] for tag, of in page.tags if tag == "link"), path
        told[path] = meta["description"]
    assert told["records/paper.html"] == paper_record()["finding"]
    assert "1 not reproduced" in told["reproduction.html"]


@pytest.mark.usefixtures("undrawn")
def test_cards_show_a_picture_where_the_address_is_known(tmp_path):
    synthetic.save(tmp_path / "records" / "one", synthetic.record(), ("results.png", "images.png"))
    folder.write(tmp_path / "records", tmp_path / "site", "https://example.org/of/mine")
    site, pictured = tree(tmp_path / "site"), set()
    for path, page in parsed(site).items():
        meta = {of.get("name") or of.get("property"): of.get("content") for tag, of in page.tags if tag == "meta"}
        assert meta["og:url"] == f"https://example.org/of/mine/{path}"
        if "og:image" in meta:
            pictured.add(path)
            assert meta["og:image"].removeprefix("https://example.org/of/mine/") in site
        assert meta["twitter:card"] == ("summary_large_image" if path in pictured else "summary")
    assert pictured == {"index.html", "records/one.html"}


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "https://example.org/?a", "https://"])
def test_what_is_no_address_is_refused(url, tmp_path):
    synthetic.save(tmp_path / "records", synthetic.record())
    with pytest.raises(ValueError, match=r"--url=.* must be the address of a folder"):
        folder.write(tmp_path / "records", tmp_path / "site", url)
    assert not (tmp_path / "site").exists()


def test_every_page_leads_to_all_overviews_and_says_which_it_is(site):
    tabs = ["index.html", "reproduction.html", "evaluations.html", "sweeps.html"]
    for path, page in parsed(site).items():
        root = "../" * path.count("/")
        linked = [of for tag, of in page.tags if tag == "a" and of.get("href") in [root + tab for tab in tabs]]
        current = [of["href"] for of in linked if of.get("aria-current") == "page"]
        assert current == ([path] if path in tabs else []), path
        assert {root + tab for tab in tabs} <= {of["href"] for of in linked}, path


def test_every_cell_of_a_card_has_a_label(site):
    for path in (path for path in site if path.endswith(".html")):
        for found in re.findall(r'<table [^>]*class="data cards[^"]*">.*?</table>', site[path].decode(), re.DOTALL):
            cells = [of for tag, of in Page(found).tags if tag == "td"]
            assert cells and all(of.get("data-label") for of in cells), (path, found[:80])


@pytest.mark.usefixtures("undrawn")
def test_classes_have_their_names_and_networks_say_what_they_see(tmp_path):
    row = {"arm": "standard", "metric": "clean_accuracy", "reported": 0.5, "label": 3}
    made = synthetic.record(reported=[row])
    made["dataset"]["label_names"] = [f"animal {at}" for at in range(10)]
    made["arms"]["pgd_at"]["says"] = {"clean": [3, 1], "triggered": [9, 2]}
    synthetic.save(tmp_path / "records", made)
    page = build(tmp_path / "records", tmp_path / "site")["records/record.html"].decode()
    assert rows_of(page, "table-class-1")[0] == " ".join(["arm", *made["dataset"]["label_names"]])
    assert rows_of(page, "table-said")[1:] == ["pgd_at animal 3, animal 1 animal 9, animal 2"]
    assert any("clean accuracy, class animal 3" in row for row in rows_of(page, "table-reported"))


def test_a_page_shows_everything_of_its_record(site):
    page = Page(site["records/paper.html"].decode()).text
    made = paper_record()
    for told in (
        made["finding"],
        made["title"],
        made["command"],
        *made["warnings"],
        *made["reasons"],
        *made["changed"],
    ):
        assert told in page, told
    for name, value in [*made["environment"].items(), *flat(made["config"]["poison"], "poison").items()]:
        assert f"{name} {views.spell(value)}" in page, name
    for name in synthetic.EVERY:
        assert charts.LABELS[name] in page, name
    for told in ("1,199,882", "rows poisoned 400 400 400", made["dataset"]["sha256"]):
        assert told in page, told


def test_curves_and_figures_are_on_the_page(records, site):
    page = site["records/paper.html"].decode()
    measured = ("training loss", "training accuracy", "clean accuracy, test", "attack success rate, test")
    assert re.findall('aria-label="([^"]*) by epoch"', page) == list(measured)
    links = Page(page).links
    for name in ("images.png", "curves.png", "own drawing.png"):
        stem = pages.slug(pathlib.PurePosixPath(pathlib.PurePosixPath(name).stem))
        assert f"../figures/paper/{stem}.png" in links, name
        assert site[f"figures/paper/{stem}.png"] == (records / "paper" / "figures" / name).read_bytes()
    assert site["records/paper.json"] == (records / "paper" / "record.json").read_bytes()


def test_a_curve_has_a_line_for_each_arm_and_seed():
    names = ("standard", "pgd_at", "filter", "pgd_at_clean_data")
    drawn = charts.curves(synthetic.record(seeds=2, rates={name: {} for name in names}))["training loss"]
    lines = re.findall(r"<path d=\"[^\"]*\" clip-path=[^>]*stroke: var\(--series-(\d)\)", drawn)
    slots = [style.looks(names)[name].slot for name in names]
    assert lines == [str(slot) for slot in slots for _ in range(2)] and slots[-1] == style.GREY
    assert [re.search(r"--series-(\d)", sample)[1] for sample in charts.key(names).values()] == [*map(str, slots)]


def test_a_field_with_a_slash_is_left_to_the_picture_of_its_analysis():
    record = synthetic.record(rates={"standard": {}})
    for row in record["arms"]["standard"]["history"][0]:
        row |= {"loss_paths/loss/poisoned/median": 0.5, "own_field": 0.5}
    assert [heading for heading in charts.curves(record) if "own field" in heading or "/" in heading] == ["own field"]


def test_without_a_poison_attack_metrics_are_dashes(site):
    page = site["records/clean.html"].decode()
    text = Page(page).text
    assert "No attack gate. No poisoning: clean baselines." in text
    assert "None" not in text.replace("None.", "") and "Why they differ" not in text
    rows = [row for row in rows_of(page, "table-metrics") if "attack success rate" in row or "triggered" in row]
    assert rows and all(re.search(r" – – –$", row) for row in rows), rows
    index = rows_of(site["index.html"].decode(), "table-numbers")
    ours = [row for row in index if row.startswith("cifar10_clean")]
    assert len(ours) == 2 and all(re.search(r" to [\d.]+ – – ", row) for row in ours)


def test_an_old_record_is_shown(site):
    page = Page(site["records/old__smoke.html"].decode()).text
    assert "Command Not recorded." in page
    assert re.search(r"T6 standard attack success rate 96.22 90.62 \d+.\d\d to \d+.\d\d inconclusive see below", page)
    assert "pgd_at_as_reported_clean_data AdversarialTraining" in page


@pytest.mark.usefixtures("undrawn")
def test_figures_of_an_old_record_say_what_its_arms_were_called(tmp_path):
    synthetic.save(tmp_path / "records", old_record(), ("bars.png",))
    (page,) = (text for path, text in parsed(build(tmp_path / "records", tmp_path / "site")).items() if "/" in path)
    assert (
        "pgd_at_as_reported was called pgd_at, pgd_at_as_reported_clean_data was called pgd_at_clean_data" in page.text
    )


def test_points_of_sweeps_are_no_experiments(site):
    index = site["index.html"].decode()
    assert "mnist_badnets" not in " ".join(rows_of(index, "table-numbers"))
    assert rows_of(site["sweeps.html"].decode(), "table-sweeps")[1:] == [
        "sweeps/one mnist_badnets small poison.rate 0.01, 0.1, 0.2 2 1 0",
        "sweeps/three mnist_badnets small a 1; b 2; c 3 1 0 0",
        "sweeps/two mnist_badnets small poison.rate 0.01, 0.1; poison.trigger.amplitude 2/255, 0.1, 0.3 2 1 1",
    ]


def test_a_sweep_over_one_axis_has_a_curve_for_each_metric_and_its_errors(site):
    page = site["sweeps/sweeps__one.html"].decode()
    assert re.findall(r'aria-label="([^"]*) by poison.rate"', page) == [charts.LABELS[name] for name in table.MAIN]
    assert rows_of(page, "table-failed")[1:] == ["0.2 Broke."]
    rows = rows_of(page, "table-points")
    assert any(re.match(r"0.1 done standard 50.93 .* 91.13 ± 0.73 ", row) for row in rows), rows
    assert "0.2 failed – – – – –" in rows
    assert "records/sweeps__one__poison.rate=0.1.html" in site


def texts(svg: str) -> dict[str, list[tuple[float, float]]]:
    """Where each text of a picture stands, x to the right and y downwards."""
    found: dict[str, list] = {}
    for x, y, text in re.findall(r'<text [^>]*?x="([^"]*)" y="([^"]*)"[^>]*>([^<]*)', svg):
        found.setdefault(text, []).append((float(x), float(y)))
    return found


def test_a_sweep_over_two_axes_has_each_number_at_its_place(records):
    (sweep,) = [each for each in reading.collect(records).sweeps if each.path.name == "two"]
    drawn = charts.swept(sweep)
    assert list(drawn) == ["standard", "pgd_at"]
    assert list(drawn["standard"]) == ["clean accuracy", "attack success rate", "PGD accuracy"]
    at = texts(drawn["standard"]["attack success rate"])
    ((_, bottom),), ((left, _),) = at["0.01"], at["2/255"]
    (right, _), (_, top) = at["0.3"][0], min(at["0.1"], key=lambda place: place[1])
    assert top < bottom, "the larger value is above"
    assert left < right
    shown = {"71.5": (left, top), "31.3": (right, bottom)}
    for said, place in shown.items():
        assert at[said] == [pytest.approx(place, abs=4)], (said, at)
    assert any(place == pytest.approx((right, top), abs=4) for place in at["not run"])
    assert len(at["failed"]) == 1 and len(at["not run"]) == 3, "a point that the sweep does not list was not run"


def test_a_sweep_over_an_axis_that_is_no_number_has_a_row_for_each_arm(tmp_path):
    values = ["BadNets(rate=0.1)", "CleanLabel()"]
    points = [({"poison": value}, point(rate)) for value, rate in zip(values, (0.4, 0.9), strict=True)]
    synthetic.save_sweep(tmp_path / "one", {"poison": values}, points)
    (sweep,) = reading.collect(tmp_path).sweeps
    assert not charts.is_curve(sweep)
    at = texts(charts.swept(sweep)[""]["attack success rate"])
    (_, first), (_, second) = at["standard"][0], at["pgd_at"][0]
    assert first < second, "arms in their order, downwards"
    shown = {
        f"{100 * made['arms'][arm]['attack_success_rate']['mean']:.1f}" for _, made in points for arm in made["arms"]
    }
    assert shown <= at.keys()


def test_a_sweep_of_many_arms_is_a_heat_map(tmp_path):
    points = []
    for value in ("0.3", "1"):
        made = point(float(value))
        made["arms"] |= {f"filter_{at}": made["arms"]["pgd_at"] for at in range(charts.FEW)}
        points.append(({"poison.trigger.amplitude": value}, made))
    synthetic.save_sweep(tmp_path / "one", {"poison.trigger.amplitude": ["0.3", "1"]}, points)
    (sweep,) = reading.collect(tmp_path).sweeps
    assert not charts.is_curve(sweep) and "filter_3" in texts(charts.swept(sweep)[""]["attack success rate"])


def test_more_axes_are_a_table(site):
    page = site["sweeps/sweeps__three.html"].decode()
    assert "<svg" not in page
    assert len(rows_of(page, "table-points")) == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0.1", "1e-2", "8/255"], [0.1, 0.01, 8 / 255]),
        (["true", "false"], None),
        (["1", "nan"], None),
        (["1", "inf"], None),
        (["1/0"], None),
        (["Square(size=3)", "3"], None),
    ],
)
def test_which_axes_are_numbers(values, expected):
    assert charts.numeric(values) == expected


def test_every_folder_has_a_page_of_its_own():
    parts = [
        ("a", "b"),
        ("a__b",),
        ("record",),
        (),
        ("a b",),
        ("a_b",),
        ("a#b",),
        ("x" * 300,),
        ("x" * 301,),
        (".a",),
        ("a",),
    ]
    slugs = [pages.slug(pathlib.PurePosixPath(*each)) for each in parts]
    assert len({*slugs}) == len(parts)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,120}", slug) for slug in slugs), slugs


@pytest.mark.usefixtures("undrawn")
def test_committed_records_have_pages(tmp_path):
    site = build(ROOT / "results", tmp_path / "site")
    found = parsed(site)
    records = sorted((ROOT / "results").rglob("record.json"))
    assert len(records) == sum(path.startswith("records/") for path in found)
    for path in records:
        page = found[f"records/{pages.slug(pathlib.PurePosixPath(path.parent.relative_to(ROOT / 'results')))}.html"]
        assert read(path)["finding"] in page.text, path
    cases = answer.cases(reading.collect(ROOT / "results").runs)
    assert all(sentence.replace("**", "") in found["index.html"].text for _, sentence in answer.sentences(cases))
    assert site["index.html"].count(b'<a class="case ') == len(cases) > 0
    test_html_is_well_formed(site)
    test_nothing_is_loaded_from_elsewhere_and_every_link_has_a_target(site)


def test_marks_are_in_the_table_and_the_heat_map_of_a_sweep(tmp_path):
    void, gated = (point(0.4) for _ in range(2))
    void["warnings"], gated["attack_gate"] = ["pgd_at, seed 0: collapsed: to one class"], synthetic.gate(0.4, 0.1)
    axes = {"a": ["1", "2"], "b": ["3"]}
    points = [({"a": value, "b": "3"}, made) for value, made in zip(axes["a"], (void, gated), strict=True)]
    synthetic.save_sweep(tmp_path / "records" / "two", axes, points)
    synthetic.save_sweep(
        tmp_path / "records" / "one", {"a": ["1", "2"]}, [({"a": of["a"]}, made) for of, made in points]
    )
    site = build(tmp_path / "records", tmp_path / "site")
    for page in (site["sweeps/two.html"].decode(), site["sweeps/one.html"].decode()):
        rows = [row for row in rows_of(page, "table-points") if "done" in row]
        counts = [[row.count(sign) for sign in table.MARKS] for row in rows]  # arms in order, at both points
        assert counts == [[0, 0], [4, 0], [0, 2], [0, 2]]
        assert all(f"{sign} {meaning}" in Page(page).text for sign, meaning in table.MARKS.items())
        drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
        assert all(sign in drawn for sign in table.MARKS)


def test_the_format_that_runs_write_is_read(tmp_path):
    made = synthetic.record()
    made["format"] = written_record.FORMAT
    synthetic.save(tmp_path, made)
    assert len(reading.collect(tmp_path).runs) == 1


def lacking(name: str):
    return lambda made: made.pop(name)


def spoil(change):
    def write(there: pathlib.Path) -> None:
        made = synthetic.record(reported=[{"arm": "standard", "metric": "clean_accuracy", "reported": 0.5}])
        change(made)
        (synthetic.save(there, synthetic.record()) / "record.json").write_text(json.dumps(made))

    return write


def spoil_sweep(change):
    def write(there: pathlib.Path) -> None:
        synthetic.save_sweep(there, {"a": ["1"]}, [({"a": "1"}, synthetic.record())])
        document = json.loads((there / "sweep.json").read_bytes())
        change(document, there)
        (there / "sweep.json").write_text(json.dumps(document))

    return write


def spoil_evaluation(**fields):
    return lambda there: synthetic.save_evaluation(there, synthetic.evaluation(synthetic.record(), **fields))


def raw(content: bytes):
    return lambda there: (synthetic.save(there, {}) / "record.json").write_bytes(content)


DAMAGED = {
    "no JSON": (raw(b"{"), "record.json is damaged: "),
    "empty": (raw(b""), "record.json is damaged: "),
    "no text": (raw(b"\xff\xfe{}"), "record.json is damaged: "),
    "half a surrogate pair": (spoil(lambda made: made.update(title="\ud800")), "record.json is damaged: "),
    "too deep": (raw(b"[" * 100_000), "record.json is damaged: "),
    "no object": (raw(b"[]"), "is damaged: at $"),
    "newer": (spoil(lambda made: made.update(format=99)), "record.json is of format 99"),
    "NaN": (spoil(lambda made: made["dataset"].update(train=math.nan)), "NaN is not JSON"),
    "no arms": (spoil(lambda made: made["arms"].clear()), "$.arms"),
    "no scale": (spoil(lacking("scale")), "'scale' is a required property"),
    "no finding": (spoil(lacking("finding")), "'finding' is a required property"),
    "no gate": (spoil(lacking("attack_gate")), "'attack_gate' is a required property"),
    "text for a number": (
        spoil(lambda made: made["arms"]["pgd_at"]["clean_accuracy"].update(mean="x")),
        "at $.arms.pgd_at.clean_accuracy.mean: 'x' is not of type 'number', 'null'",
    ),
    "no fraction": (
        spoil(lambda made: made["arms"]["pgd_at"]["robust_accuracy"].update(mean=1.5)),
        "$.arms.pgd_at.robust",
    ),
    "a seed missing": (spoil(lambda made: made["seeds"].append(1)), "is not of 2 seeds"),
    "a count missing": (
        spoil(lambda made: made["arms"]["pgd_at"]["clean_accuracy"]["numerator"].clear()),
        "arms.pgd_at.clean_accuracy is not of 1 seeds",
    ),
    "an unknown arm": (spoil(lambda made: made["comparison"][0].update(arm="x")), "comparison names x.clean_accuracy"),
    "no sweep": (spoil_sweep(lambda document, _: document.pop("axes")), "sweep.json is damaged: at $"),
    "a row too long": (
        spoil(lambda made: made["analyses"].update(x=synthetic.analysis("x", {}, [(["a"], [["1", "2"]])]))),
        "a table of analyses.x has rows of another length than its header",
    ),
    "a cell that is no text": (
        spoil(lambda made: made["analyses"].update(x=synthetic.analysis("x", {}, [(["a"], [[1]])]))),
        "at $.analyses.x.tables[0].rows[0][0]: 1 is not of type 'string'",
    ),
    "no objective": (spoil(lambda made: made["config"]["arms"][0].pop("objective")), "at $.config.arms[0]"),
    "newer sweep": (spoil_sweep(lambda document, _: document.update(format=2)), "sweep.json is of format 2"),
    "outside": (
        spoil_sweep(lambda document, _: document["points"][0].update(folder="../x")),
        "sweep.json is damaged: the folder '../x' is not below it",
    ),
    "off the axes": (
        spoil_sweep(lambda document, _: document["points"][0].update(settings={"a": "2"})),
        "sweep.json is damaged: the settings of 'a=1' are not on its axes",
    ),
    "newer evaluation": (spoil_evaluation(format=3), "evaluation.json is of format 3"),
    "an evaluation of no images": (spoil_evaluation(robust=[0, 0]), "evaluation.json is damaged: at $.robust[1]"),
    "more hits than images": (spoil_evaluation(clean=[81, 80]), "evaluation.json is damaged: clean counts more images"),
    "a stage that is no share": (spoil_evaluation(stages={"pgd": 2.0}), "evaluation.json is damaged: at $.stages.pgd"),
    "a point gone": (
        spoil_sweep(lambda _, there: (there / "a=1" / "record.json").unlink()),
        "sweep.json says that a=1 is done, but ",
    ),
}


def refused(capsys, *words: str, status: int = 2) -> str:
    """The one line that the command says."""
    try:
        assert command.main(list(words)) == status
    except SystemExit as leaving:
        assert leaving.code == status
    said, complaint = capsys.readouterr()
    assert said == ""
    assert complaint.startswith("python -m poisonjax.reports: ")
    assert complaint.count("\n") == 1 and complaint.endswith("\n")
    assert len(complaint) < 600
    return complaint


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_input_is_one_line_that_names_the_file(kind, tmp_path, capsys):
    damage, told = DAMAGED[kind]
    damage(tmp_path / "records" / "bad")
    out = tmp_path / "out" / "site"
    complaint = refused(capsys, "site", "--records", str(tmp_path / "records"), "--out", str(out))
    assert told in complaint
    assert str(tmp_path / "records" / "bad") in complaint
    assert not out.parent.exists(), "nothing is written"


@pytest.fixture
def good(tmp_path) -> pathlib.Path:
    return synthetic.save(tmp_path / "records", synthetic.record())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("site", "--records", "no/such", "--out", "site"), "--records no/such is not a folder"),
        (("site", "--records", "empty", "--out", "site"), "--records empty holds no record.json"),
        (("site", "--records", "records", "--out", "mine"), "--out mine holds 'thesis.tex', which is not of a site"),
        (("site", "--records", "records", "--out", "mine/thesis.tex"), "--out mine/thesis.tex is not a folder"),
        (("site", "--records", "records", "--out", "records"), "--out records holds the records"),
        (("site", "--records", "records", "--out", "."), "--out . holds the records"),
        (("site", "--records", "records"), "--out"),
        (("site", "--out", "site"), "--records"),
        (("page",), "'page'"),
        (("site", "--records", "records", "--out", "site", "--fast"), "--fast"),
    ],
)
def test_bad_input_is_one_line(words, told, good, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    before = tree(tmp_path)
    assert told in refused(capsys, *words)
    assert tree(tmp_path) == before


@pytest.mark.usefixtures("undrawn")
def test_a_site_is_replaced_whole_and_leaves_nothing_beside_it(good, tmp_path, capsys):
    synthetic.save(good / "more", synthetic.record("more"))
    out = tmp_path / "out" / "site"
    words = ["site", "--records", str(good), "--out", str(out)]
    assert command.main(words) == 0
    assert (out / "records" / "more.html").exists()
    shutil.rmtree(good / "more")
    assert command.main(words) == 0
    assert not (out / "records" / "more.html").exists()
    assert [path.name for path in out.parent.iterdir()] == ["site"]
    assert capsys.readouterr().out == f"{out / 'index.html'}\n" * 2


@pytest.mark.usefixtures("undrawn")
def test_foreign_files_in_a_site_are_kept(good, tmp_path, capsys):
    folder.write(good, tmp_path / "site")
    (tmp_path / "site" / "CNAME").write_text("example.org")
    before = tree(tmp_path / "site")
    assert "holds 'CNAME'" in refused(capsys, "site", "--records", str(good), "--out", str(tmp_path / "site"))
    assert tree(tmp_path / "site") == before


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("broken", ["write_bytes", "rename"])
def test_a_full_disk_leaves_the_old_site(broken, good, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out" / "site"
    folder.write(good, out)
    before = tree(out)
    genuine, calls = getattr(pathlib.Path, broken), []

    def fail(path: pathlib.Path, *arguments):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        return genuine(path, *arguments)

    monkeypatch.setattr(pathlib.Path, broken, fail)
    assert "No space left" in refused(capsys, "site", "--records", str(good), "--out", str(out), status=1)
    assert tree(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["site"]


def test_tables_are_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "poisonjax.reports.summary.pages", lambda root, runs: {tmp_path / "README.md": f"tables of {root.name}"}
    )
    monkeypatch.setattr("poisonjax.reports.hero.pictures", lambda root, runs: {tmp_path / "hero.png": b"drawn"})
    assert command.main(["tables"]) == 0
    assert (tmp_path / "README.md").read_text() == f"tables of {ROOT.name}"
    assert (tmp_path / "hero.png").read_bytes() == b"drawn"


def test_without_a_command_the_usage_is_shown_and_nothing_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("poisonjax.reports.summary.pages", lambda root, runs: {tmp_path / "README.md": "tables"})
    assert command.main([]) == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.startswith("usage: python -m poisonjax.reports COMMAND")
    assert not list(tmp_path.iterdir())
