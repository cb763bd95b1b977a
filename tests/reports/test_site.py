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
from poisonjax.reports import record as written_record
from poisonjax.reports import style, table
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
    three = {"a": ["1"], "b": ["2"], "c": ["3"]}
    synthetic.save_sweep(there / "sweeps" / "three", three, [({"a": "1", "b": "2", "c": "3"}, point(0.5))])
    return there


@pytest.fixture(scope="module")
def site(records, tmp_path_factory) -> dict[str, bytes]:
    return build(records, tmp_path_factory.mktemp("out") / "site")


def test_same_records_elsewhere_give_the_same_bytes(records, site, tmp_path):
    copy = shutil.copytree(records, tmp_path / "else" / "where")
    words = [sys.executable, "-m", "poisonjax.reports", "site", "--records", str(copy), "--out", str(tmp_path / "site")]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True)
    again = tree(tmp_path / "site")
    assert again.keys() == site.keys()
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
    assert sorted({row["record"] for row in rows}) == paths
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
            if link == "data:,":
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
    site = build(tmp_path / "records", tmp_path / "site")
    test_nothing_is_loaded_from_elsewhere_and_every_link_has_a_target(site)
    test_html_is_well_formed(site)
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


def test_the_summary_table_has_every_reported_number_beside_ours(records, site):
    rows = rows_of(site["index.html"].decode(), "table-numbers")
    cell = json.loads((records / "paper" / "record.json").read_bytes())["arms"]["pgd_at"]["attack_success_rate"]
    low, high = cell["ci95"]
    ours = f"{100 * cell['mean']:.2f} ± {100 * cell['std']:.2f} {table.VOID} {100 * low:.2f} to {100 * high:.2f}"
    assert f"mnist_paper paper changed 3 pgd_at attack success rate 0.99 T6 {ours} not reproduced Why." in rows
    assert any(re.search(r"pgd_at clean accuracy, class 0 94.18 T6 .* inconclusive One class.$", row) for row in rows)
    assert sum("mnist_paper" in row for row in rows) == 3 + 3 * len(table.MAIN) - 2
    assert any(
        re.search(r"mnist_old smoke 1 standard attack success rate 96.22 T6 .* on its page$", row) for row in rows
    )
    reported = [not row.endswith("not reported –") for row in rows[1:]]
    assert reported == sorted(reported, reverse=True), "reported numbers come first"


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


def test_without_a_poison_attack_metrics_are_dashes(site):
    page = site["records/clean.html"].decode()
    text = Page(page).text
    assert "No attack gate. No poisoning: clean baselines." in text
    assert "None" not in text.replace("None.", "") and "Why they differ" not in text
    rows = [row for row in rows_of(page, "table-metrics") if "attack success rate" in row or "triggered" in row]
    assert rows and all(re.search(r" – – –$", row) for row in rows), rows
    index = rows_of(site["index.html"].decode(), "table-numbers")
    ours = [row for row in index if "cifar10_clean" in row]
    assert len(ours) == 4 and not any("attack" in row or "triggered" in row for row in ours)


def test_an_old_record_is_shown(site):
    page = Page(site["records/old__smoke.html"].decode()).text
    assert "Command Not recorded." in page
    assert re.search(r"T6 standard attack success rate 96.22 90.62 \d+.\d\d to \d+.\d\d inconclusive see below", page)
    assert "pgd_at_as_reported_clean_data AdversarialTraining" in page


def test_figures_of_an_old_record_say_what_its_arms_were_called(tmp_path):
    synthetic.save(tmp_path / "records", old_record(), ("bars.png",))
    (page,) = (text for path, text in parsed(build(tmp_path / "records", tmp_path / "site")).items() if "/" in path)
    assert (
        "pgd_at_as_reported was called pgd_at, pgd_at_as_reported_clean_data was called pgd_at_clean_data" in page.text
    )


def test_points_of_sweeps_are_no_experiments(site):
    index = site["index.html"].decode()
    assert "mnist_badnets" not in " ".join(rows_of(index, "table-numbers"))
    assert rows_of(index, "table-sweeps")[1:] == [
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


@pytest.mark.parametrize("path", sorted((ROOT / "results").rglob("record.json")), ids=lambda path: path.parent.name)
def test_committed_records_have_pages(path, tmp_path):
    site = build(path.parent, tmp_path / "site")
    made = read(path)
    (page,) = (text for name, text in parsed(site).items() if name.startswith("records/"))
    assert made["finding"] in page.text
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


def test_foreign_files_in_a_site_are_kept(good, tmp_path, capsys):
    folder.write(good, tmp_path / "site")
    (tmp_path / "site" / "CNAME").write_text("example.org")
    before = tree(tmp_path / "site")
    assert "holds 'CNAME'" in refused(capsys, "site", "--records", str(good), "--out", str(tmp_path / "site"))
    assert tree(tmp_path / "site") == before


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
        "poisonjax.reports.summary.pages", lambda root: {tmp_path / "README.md": f"tables of {root.name}"}
    )
    assert command.main(["tables"]) == 0
    assert (tmp_path / "README.md").read_text() == f"tables of {ROOT.name}"


def test_without_a_command_the_usage_is_shown_and_nothing_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("poisonjax.reports.summary.pages", lambda root: {tmp_path / "README.md": "tables"})
    assert command.main([]) == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.startswith("usage: python -m poisonjax.reports COMMAND")
    assert not list(tmp_path.iterdir())
