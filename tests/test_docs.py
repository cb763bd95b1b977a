"""The pages agree with the code: calls, costs, members, names, and a reference for every paper."""

import ast
import inspect
import json
import pathlib
import pkgutil
import re
import types

import numpy as np
import pytest

import poisonjax
from poisonjax import attacks, defences, poisons, training
from poisonjax.runs import experiments

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path: path.read_text() for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]}
SOURCES = [*(ROOT / "poisonjax").rglob("*.py"), *(ROOT / "experiments").glob("*.py"), *(ROOT / "tests").rglob("*.py")]

PAGE = PAGES[DOCS / "attacks.md"]
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if re.match(r"\| .*`\w+\(.*\| \d+ \| \d+ \|$", line)]
CALLS = {cells[1].strip(" `"): tuple(int(cell) for cell in cells[-2:]) for cells in ROWS}
WRAPPERS = "bpda", "eot", "with_rejection", "evade", "scaled", "transfer"
LINKS = dict(re.findall(r"\[([^\]]+)\]\((https://(?:arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\S+))\)", PAGE))

# - <a id="anchor"></a>**Label.** Authors. *Title.* Venue year. [link](address). `place`
ENTRY = re.compile(r'^- <a id="(\w+)"></a>\*\*(.+?)\.\*\* (.+?)(?=^- <a|^#|\Z)', re.DOTALL | re.MULTILINE)
ENTRIES = {anchor: (label, text) for anchor, label, text in ENTRY.findall(PAGES[DOCS / "references.md"])}
AUTHORS = r"[A-Z][a-z]+(?: et al\.| (?:&|and) [A-Z][a-z]+)"
PAPER = rf"({AUTHORS})(?:'s)?,? \(?((?:19|20)\d\d)\b"
ALONE = r"(?<!& )(?<!and )\b([A-Z][a-z]{2,}) ((?:19|20)\d\d)\b"

NOTEBOOK = DOCS / "notebooks" / "is_my_network_robust.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
CODE = "".join("".join(cell["source"]) + "\n" for cell in CELLS)


def papers(text: str, pattern: str = PAPER) -> set[str]:
    """The papers that a text cites, as `Wong et al. 2020` or `Kingma & Ba 2015`."""
    pairs = re.findall(pattern, re.sub(r"\s+", " ", text))
    return {f"{names} {year}".replace(" and ", " & ") for names, year in pairs}


def docstrings(path: pathlib.Path) -> str:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    return "\n".join(filter(None, map(ast.get_docstring, nodes)))


def members(module: types.ModuleType, *families: type) -> set[type]:
    """The concrete classes of a module that derive from a family."""
    kinds = {kind for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, families)}
    return {kind for kind in kinds - set(families) if not inspect.isabstract(kind)}


@pytest.mark.parametrize("call", CALLS)
def test_cost_in_the_table_is_the_cost_of_the_attack(call):
    assert tuple(eval(call, {}, vars(attacks)).cost) == CALLS[call]


def test_every_attack_has_a_row():
    shown = {type(eval(call, {}, vars(attacks))) for call in CALLS}
    assert shown == members(attacks, attacks.Attack)
    assert all(f"`{name}(" in PAGE for name in ("fgsm", "bim", "mi_fgsm", *WRAPPERS))
    kinds = {kind.__name__ for kind in members(attacks, attacks.Ball, attacks.Loss)}
    assert all(f"`{name}(eps)`" in PAGE or f"`{name}()`" in PAGE for name in kinds)


@pytest.mark.parametrize(
    ("page", "module", "families"),
    [
        ("poisons.md", poisons, (poisons.Poison, poisons.Wrapped, poisons.Trigger)),
        ("defences.md", training, (training.Objective,)),
        ("defences.md", defences, (defences.Defence,)),
    ],
)
def test_every_poison_training_and_defence_has_a_row(page, module, families):
    calls = re.findall(r"^\| [^|]+ \| `(\w+\(.*?\))` \|", PAGES[DOCS / page], re.MULTILINE)
    made = [eval(call, {}, vars(attacks) | vars(training) | vars(defences) | vars(poisons)) for call in calls]
    assert members(module, *families) <= {type(one) for one in made}


def test_every_paper_has_a_link():
    """Those that the tables name, and those that the sources of the attacks cite."""
    for page in ("attacks.md", "poisons.md", "defences.md"):
        assert not papers(re.sub(r"\[[^\]]+\]\([^)]+\)", "", PAGES[DOCS / page])), page
    assert len(LINKS) >= 20
    cited = papers("".join(path.read_text() for path in (ROOT / "poisonjax" / "attacks").glob("*.py")))
    assert cited <= papers(" ".join(LINKS))


def test_every_paper_cited_anywhere_is_in_the_references():
    labels = "; ".join(label for label, _ in ENTRIES.values())
    assert labels.count(";") + 1 == len(ENTRY.findall(PAGES[DOCS / "references.md"])), "an anchor is there twice"
    known = papers(labels) | papers(labels, ALONE)
    pages = {path: text for path, text in PAGES.items() if path.name != "references.md"}  # venues look like authors
    cited = {str(path.relative_to(ROOT)): papers(text) for path, text in pages.items()}
    for path in SOURCES:
        cited[str(path.relative_to(ROOT))] = papers(path.read_text()) | papers(docstrings(path), ALONE)
    missing = {path: here - known for path, here in cited.items() if here - known}
    assert not missing
    assert len(set().union(*cited.values())) >= 40


@pytest.mark.parametrize("anchor", ENTRIES)
def test_a_reference_is_complete_and_its_places_exist(anchor):
    label, text = ENTRIES[anchor]
    assert re.search(r"\w\.\s+\*.+?[.?!]\*\s+\S.*\d{4}\.\s+\[.+?\]\(https://\S+\)", text, re.DOTALL)
    assert anchor == "report" or re.search(r"\d{4}", label)[0] == re.search(r"\d{4}", anchor)[0]
    for place in re.findall(r"`([\w.]+\w)`", text):
        assert pkgutil.resolve_name(f"poisonjax.{place}")


def test_references_are_those_of_the_tables():
    addresses = {label: text for label, text in ENTRIES.values()}
    assert all(f"({address})" in addresses[name] for name, address in LINKS.items())
    named = r"\[([^\]]+ \d{4})\]\((?:docs/|\.\./)?references\.md#(\w+)\)"
    found = [pair for text in PAGES.values() for pair in re.findall(named, text)]
    assert all(ENTRIES[anchor][0].startswith(name) for name, anchor in found)
    assert len(found) >= 20


@pytest.mark.parametrize("anchor", [anchor for anchor, (_, text) in ENTRIES.items() if "arxiv.org" in text])
def test_a_preprint_is_not_newer_than_its_paper(anchor):
    label, text = ENTRIES[anchor]
    preprint = 2000 + int(re.search(r"arxiv\.org/abs/(\d\d)", text)[1])
    assert preprint <= int(re.search(r"\d{4}", label)[0]) <= preprint + 2


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files(path):
    targets = re.findall(r"\]\((?!\w+:)([^)#\s]+)", re.sub(r"```.*?```", "", PAGES[path], flags=re.DOTALL))
    assert not [target for target in targets if not (path.parent / target).exists()]


def test_every_experiment_of_the_report_is_in_the_guide():
    named = set(re.findall(r"`((?:mnist|cifar10)_\w+)`", PAGES[DOCS / "reproduce.md"])) - {"mnist_5k"}
    own = {name for name in experiments.names() if "beyond the report" not in experiments.claim(name)}
    assert named == own


def test_api_pages_have_all_top_level_names():
    index = PAGES[DOCS / "api" / "index.md"]
    assert all(f"`pj.{name}`" in index for name in poisonjax.__all__ if name != "__version__")
    for target in re.findall(r"^::: (\S+)", "\n".join(PAGES.values()), re.MULTILINE):
        assert pkgutil.resolve_name(target)


def test_notebook_has_outputs_without_errors():
    kinds = [{output["output_type"] for output in cell["outputs"]} for cell in CELLS]
    assert kinds and all(kinds) and "error" not in set().union(*kinds)
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    assert "stderr" not in {output.get("name") for cell in CELLS for output in cell["outputs"]}
    assert NOTEBOOK.stat().st_size < 300_000
    assert "gradient masking: the gradient of 100.0%" in NOTEBOOK.read_text()


def test_notebook_uses_names_that_exist():
    tree, aliases = ast.parse(CODE), {"pj": "poisonjax"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "poisonjax":
            aliases |= {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    chains = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}
    used = {chain for chain in chains if re.fullmatch(r"[\w.]+", chain) and chain.split(".")[0] in aliases}
    assert {"pj.evaluate", "pj.attacks.bpda", "AutoAttack"} <= used
    for chain in used:
        head, *rest = chain.split(".")
        assert pkgutil.resolve_name(".".join([aliases[head], *rest]))


def test_the_page_of_the_notebook_is_made_from_it():
    """With `jupyter nbconvert --to markdown`."""
    page = NOTEBOOK.with_suffix(".md").read_text()
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert "".join(cell["source"]).strip() in page
    texts = [output.get("text") or output["data"]["text/plain"] for cell in CELLS for output in cell["outputs"]]
    lines = [line.strip() for text in texts for line in text if not line.startswith("<Figure")]
    assert len(lines) > 40 and all(line in page for line in lines)
    assert all((NOTEBOOK.parent / name).exists() for name in re.findall(r"!\[png\]\((\S+)\)", page))


REVEALS = PAGES[DOCS / "removes_or_reveals.md"]


def swept(name):
    """The settings and the arms of each point of a committed sweep."""
    folder = ROOT / "results" / "small" / "sweeps" / name
    for point in json.loads((folder / "sweep.json").read_text())["points"]:
        if point["status"] == "done":
            yield point["settings"], json.loads((folder / point["folder"] / "record.json").read_text())["arms"]


def whole(name):
    """The arms of a committed record of the full scale."""
    return json.loads((ROOT / "results" / "full" / name / "record.json").read_text())["arms"]


def percent(arm, metric="attack_success_rate"):
    """The mean, with the standard deviation of several seeds."""
    mean, spread = arm[metric]["mean"], arm[metric]["std"]
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def removed(arm):
    """How many poisoned and clean rows, as the mean over seeds."""
    return ", ".join(
        f"{round(np.mean(arm[f'{kind}_rows_removed']['numerator']), 1):g}" for kind in ("poisoned", "clean")
    )


def test_the_phase_diagram_on_the_page_is_that_of_its_records():
    for settings, arms in swept("mnist_phase_diagram"):
        cells = [f"{float(settings['poison.trigger.amplitude']):g}"]
        cells += [percent(arms[arm]) for arm in ("standard", "pgd_at_10", "pgd_at_20", "pgd_at_30")]
        cells += [removed(arms[f"reveal_{judge}"]) for judge in ("10", "20", "30", "ladder")]
        cells += [percent(arms["reveal_ladder"]), percent(arms["reveal_ladder"], "clean_accuracy")]
        assert f"| {' | '.join(cells)} |" in REVEALS


def test_losses_by_epoch_are_on_the_page_as_recorded():
    record = json.loads((ROOT / "results" / "small" / "mnist_loss_paths" / "record.json").read_text())
    for arm, of in record["analyses"]["loss_paths"]["arms"].items():
        medians = of.get("medians", {}).values()
        cells = [
            ", ".join(f"{each[name]['mean']:.3g}" for each in medians)
            for name in ("loss", "loss_under_attack", "margin")
        ]
        assert not of or f"| {' | '.join([f'`{arm}`', *cells, format(of['auc']['last']['mean'], '.3g')])} |" in REVEALS


def test_where_a_trigger_begins_to_be_learnt_is_on_the_page_as_recorded():
    rates = {}
    for settings, arms in swept("mnist_phase_diagram_edge"):
        at = float(settings["poison.rate"]), float(settings["poison.trigger.amplitude"])
        rates[at] = percent(arms["pgd_at_30"])
        assert 99.0 <= float(percent(arms["standard"])) <= 99.9 and percent(arms["standard_clean_data"]) == "0.4"
    for rate in {rate for rate, _ in rates}:
        cells = [f"{rate:g}", *(rates[at] for at in sorted(rates) if at[0] == rate)]
        assert f"| {' | '.join(cells)} |" in REVEALS


def test_every_training_on_the_poisons_of_the_report_is_on_the_page_as_recorded():
    metrics = ("clean_accuracy", "triggered_accuracy", "attack_success_rate", "robust_accuracy")
    sweeps = "mnist_removes_or_reveals", "mnist_covering_budgets"
    points = [arms for name in sweeps for _, arms in swept(name)]
    assert points
    points += map(whole, ("mnist_badnets", "mnist_clean_label", "mnist_covering_budgets"))
    for name, arm in [each for arms in points for each in arms.items()]:
        rows = removed(arm) if "clean_rows_removed" in arm else "–"
        assert f"| {' | '.join([f'`{name}`', *(percent(arm, metric) for metric in metrics), rows])} |" in REVEALS


def test_the_front_page_says_what_a_covering_budget_does_as_recorded():
    rates = [
        percent(whole(name)[arm])
        for name, arm in (("mnist_covering_budgets", "pgd_at_l2_2"), ("mnist_badnets", "pgd_at"))
    ]
    said = " ".join((ROOT / "README.md").read_text().split())
    assert f"(attack success {rates[0]} % instead of {rates[1]} % on all of MNIST" in said


def test_explanation_guided_backdoors_are_on_the_page_as_recorded():
    record = ROOT / "results" / "small" / "tabular_explanation_guided" / "record.json"
    arms, page = json.loads(record.read_text())["arms"], PAGES[DOCS / "poisons.md"]
    told = "standard", "pgd_at", "pgd_at_l0", "isolation_forest", "spectral_signatures", "activation_clustering"
    assert all(f"{percent(arms[arm])} %" in page for arm in told)
    assert f"{percent(arms['isolation_forest'], 'clean_rows_removed').split()[0]} % of the clean rows" in page


def test_the_attackers_who_know_are_on_the_page_as_recorded():
    for settings, arms in swept("mnist_adaptive_poisons"):
        filters = [arms[arm] for arm in ("reveal", "masked_disagreement", "reveal_or_masked", "repeated_patch")]
        cells = [f"`{settings['poison']}`", percent(arms["standard"]), percent(arms["pgd_at"])]
        cells += [f"{percent(arm)} ({removed(arm)})" for arm in filters]
        assert f"| {' | '.join(cells)} |" in REVEALS
