"""Pictures say what the record says, and can be read at the width of a page."""

import json
import pathlib
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from poisonjax.reports import brief, figures, images, style
from poisonjax.reports.arms import control, controls
from poisonjax.reports.upgrade import upgraded
from tests.reports import records as synthetic

COMMITTED = sorted((pathlib.Path(__file__).parents[2] / "results" / "small").glob("*/record.json"))
PAGE = 1000  # pixels
RATES = {"standard": 0.9, "pgd_at": 0.95, "filter": 0.3, "pruned": 0.05, "pgd_at_clean_data": 0.03}
PARTS = {
    "filter": {"defence": {"type": "Filter"}},
    "pruned": {"defence": {"type": "Pruned"}},
    "pgd_at_clean_data": {"poisoned": False},
}


def made(rates=RATES, seeds=1, reported=(), **fields) -> dict:
    """A poisoned record with these attack success rates, one seed's worth of rounding apart."""
    cells = {arm: {"attack_success_rate": rate} for arm, rate in rates.items()}
    return synthetic.record(rates=cells, seeds=seeds, parts=PARTS, reported=reported) | fields


def texts(figure: Figure) -> list[Text]:
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def words(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in texts(figure)).split())


def panel(figure: Figure, heading: str):
    """The axes whose heading starts so."""
    (found,) = [axis for axis in figure.axes if axis.get_title("left").replace("\n", " ").startswith(heading)]
    return found


def points(axis, marker: str) -> list[tuple[float, float]]:
    """Where a marker stands on axes."""
    lines = [line for line in axis.lines if line.get_marker() == marker]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


# Results


def test_a_loss_of_accuracy_is_drawn_first_beside_the_interval_of_its_control():
    record = synthetic.spoilt_record()
    figure = figures.results(record)
    first, *_ = [axis for axis in figure.axes if axis.get_title("left")]
    assert first.get_title("left").startswith("Clean") and "Attack success" not in words(figure)
    assert "control, 95% interval: pgd_at_clean_data" in words(figure)
    title = "The loss of accuracy (20.5% after standard training) is removed by pgd_at (88.6%)"
    assert brief.finding(record).startswith(title)


def test_a_dot_and_its_interval_are_the_record_in_percent():
    record = made(seeds=3)
    axis = panel(figures.results(record), "Attack success rate")
    looks = style.looks(record["arms"], controls(record))
    assert [label.get_text() for label in axis.get_yticklabels()] == list(record["arms"])
    for row, (arm, fields) in enumerate(record["arms"].items()):
        metric, bars = fields["attack_success_rate"], axis.containers[row]
        dot, _, (interval,) = bars.lines
        assert dot.get_xydata().tolist() == [[100 * metric["mean"], row]] and dot.get_marker() == looks[arm].marker
        assert interval.get_segments()[0][:, 0] == pytest.approx([100 * end for end in metric["ci95"]])
    assert [text.get_text() for text in axis.texts] == [
        f"{100 * fields['attack_success_rate']['mean']:.1f}" for fields in record["arms"].values()
    ]


def test_every_reported_value_of_a_cell_is_a_diamond():
    given = [("triggered_accuracy", 0.0139), ("triggered_accuracy", 0.0016), ("clean_accuracy", 0.98)]
    rows = [{"arm": "standard", "metric": metric, "reported": value} for metric, value in given]
    of_a_class = {"arm": "pgd_at", "metric": "clean_accuracy", "reported": 0.5, "label": 3}
    drawn = figures.results(made(reported=[*rows, of_a_class]))
    assert [x for x, _ in points(panel(drawn, "Triggered accuracy"), "D")] == pytest.approx([1.39, 0.16])
    first, second = (y for _, y in points(panel(drawn, "Triggered accuracy"), "D"))
    assert first == 0 and 0 < second < 0.5, "two values of one cell do not hide each other"
    assert points(panel(drawn, "Clean accuracy"), "D") == [(98.0, 0.0)]
    assert "reported" in words(drawn) and "reported" not in words(figures.results(made()))


def test_the_grey_band_is_the_interval_of_the_control():
    record = made()
    drawn = figures.results(record)
    (band,) = panel(drawn, "Attack success rate").patches
    low, high = record["arms"]["pgd_at_clean_data"]["attack_success_rate"]["ci95"]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((100 * low, 100 * high))
    assert "control, 95% interval: pgd_at_clean_data" in words(drawn)
    assert not panel(drawn, "Clean accuracy").patches


def test_a_void_row_is_crossed_and_says_why():
    record = made(warnings=["filter, seed 0: collapsed: every clean test image is predicted as class 0"])
    drawn = figures.results(record)
    axis = panel(drawn, "Attack success rate")
    at = 100 * record["arms"]["filter"]["attack_success_rate"]["mean"]
    assert points(axis, "x") == [(pytest.approx(at), 2)]
    assert axis.get_yticklabels()[2].get_text() == "filter\nvoid: collapsed"
    assert len(axis.containers) == len(record["arms"]) - 1, "no interval of a number that means nothing"
    assert "void: means nothing" in words(drawn) and "void" not in words(figures.results(made()))


def test_a_void_control_is_no_band():
    record = made(warnings=["pgd_at_clean_data, seed 0: undertrained: 10% clean accuracy"])
    assert control(record) is None
    assert not panel(figures.results(record), "Attack success rate").patches


def test_panels_are_those_of_what_was_measured():
    def panels(record):
        return [axis.get_title("left").replace("\n", " ") for axis in figures.results(record).axes]

    clean = synthetic.record(poisoned=False, rates={"standard": {}, "pgd_at": {"autoattack_accuracy": 0.4}})
    assert panels(clean) == ["Clean accuracy, %", "PGD accuracy, %", "AutoAttack accuracy, %"]
    assert panels(made()) == ["Attack success rate, %", "Clean accuracy, %", "PGD accuracy, %"]


def test_a_metric_that_an_arm_lacks_is_not_drawn():
    record = made()
    record["arms"]["filter"]["clean_accuracy"] = synthetic.metric(None, 1)
    axis = panel(figures.results(record), "Clean accuracy")
    assert len(axis.containers) == len(record["arms"]) - 1


# Titles


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        (
            {},
            "The backdoor (90.6% after standard training) survives pgd_at (95.8%), is weakened, but not removed, by "
            "filter (30.8%) and is removed by pruned (6.1%); control without poison 4.0%",
        ),
        (
            {"warnings": ["pgd_at, seed 0: collapsed: x", "filter, seed 0: collapsed: x", "pruned, seed 0: NaN: x"]},
            "The backdoor (90.6% after standard training) works; nothing follows for pgd_at, filter and pruned; "
            "control without poison 4.0%",
        ),
        ({"attack_gate": synthetic.gate(0.3, 0.1)}, "The finding of mnist_badnets at small scale."),
        ({"warnings": ["standard, seed 0: undertrained: x"]}, "The finding of mnist_badnets at small scale."),
    ],
)
def test_the_title_is_the_finding_in_short(fields, title):
    record = made(**fields)
    assert brief.finding(record) == title
    assert title in words(figures.results(record))


def test_a_title_counts_defences_that_are_many():
    rates = [0.9, 0.8, 0.95, 0.3, 0.2, 0.05, 0.05, 0.05, 0.05]
    filters = {f"filter_{at}": rate for at, rate in enumerate(rates)}
    parts = {name: {"defence": {"type": "Filter"}} for name in filters}
    cells = {arm: {"attack_success_rate": rate} for arm, rate in {"standard": 0.9, **filters, "clean": 0.04}.items()}
    record = synthetic.record(rates=cells, parts=parts | {"clean": {"poisoned": False}})
    said = brief.finding(record)
    assert re.search(r"survives 3 defences \(8.\.. to 9.\..%\), is weakened, but not removed, by filter_3 \(", said), (
        said
    )
    assert re.search(r"and is removed by 4 defences \(.\.. to .\..%\)", said), said


def test_without_a_poison_the_title_ranks_the_sound_networks():
    robust = {"standard": 0.0, "pgd_at": 0.8, "trades": 0.7}
    cells = {arm: {"robust_accuracy": rate} for arm, rate in robust.items()}
    record = synthetic.record(poisoned=False, rates=cells)
    assert brief.finding(record) == "PGD accuracy 81.3% after pgd_at, 71.0% after trades, 0.9% after standard"
    record["warnings"] = ["pgd_at, seed 0: collapsed: x"]
    assert brief.finding(record) == "PGD accuracy 71.0% after trades, 0.9% after standard"
    record["warnings"] = [f"{arm}, seed 0: collapsed: x" for arm in robust]
    assert brief.finding(record) == "Nothing follows: no network is sound"
    many = synthetic.record(poisoned=False, rates={f"x{at}": {"robust_accuracy": at / 10} for at in range(6)})
    assert brief.finding(many) == "PGD accuracy from 0.9% after x0 to 50.4% after x5"


# Curves


def test_curves_have_a_line_for_each_arm_and_seed_and_an_ordered_legend():
    record = made(seeds=2)
    drawn = figures.curves(record)
    axis = panel(drawn, "Clean accuracy")
    looks = style.looks(record["arms"], controls(record))
    assert [line.get_color() for line in axis.lines] == [
        style.LIGHT.series[look.slot] for look in looks.values() for _ in range(2)
    ]
    history = record["arms"]["standard"]["history"][0]
    assert axis.lines[0].get_ydata().tolist() == [row["clean_accuracy"] for row in history]
    assert {text.get_text() for text in drawn.legends[0].get_texts()} == set(record["arms"])


def test_the_end_of_the_growth_of_eps_is_marked():
    part = {"objective": synthetic.AT | {"eps_warmup": 0.5}}
    record = synthetic.record(parts={"pgd_at": part})
    last = record["arms"]["pgd_at"]["history"][0][-1]["epoch"]
    drawn = figures.curves(record)
    assert [line.get_xdata() for line in panel(drawn, "Training loss").lines][-1] == [last / 2, last / 2]
    assert figures.WARMED in words(drawn) and figures.WARMED not in words(figures.curves(synthetic.record()))


def test_accuracies_are_in_percent_and_losses_are_not():
    record = made()
    record["arms"]["standard"]["history"][0][0]["mmd2"] = 0.5
    drawn = figures.curves(record)
    drawn.draw_without_rendering()
    ticks = [label.get_text() for label in panel(drawn, "Training accuracy").get_yticklabels()]
    assert panel(drawn, "Training accuracy").get_ylabel() == "%" and {"20", "40"} <= {*ticks}
    assert {panel(drawn, heading).get_ylabel() for heading in ("Training loss", "MMD²")} == {""}


# Sheets of images


def column(name: str, rows: int = 1, captions=(), wrong=()) -> images.Column:
    return images.Column(name, np.full((rows, 4, 4, 1), 0.5), captions, wrong)


@pytest.mark.parametrize(("count", "group"), [(1, 1), (8, 1), (17, 1), (12, 3), (22, 11)])
def test_a_sheet_shows_every_column_in_bands_that_fit_a_page(count, group):
    names = [f"c{at}" for at in range(count)]
    drawn = images.sheet("Title", ["a"], list(map(column, names)), column("first"), group=group)
    headings = [axis.get_title() for axis in drawn.axes if axis.get_title()]
    assert [name for name in headings if name != "first"] == names
    bands = " ".join(headings).split("first")[1:]
    widest = max(len(band.split()) + 1 for band in bands)
    assert widest <= max(images.COLUMNS, group + 1)
    assert all(len(band.split()) % group == 0 for band in bands)
    assert sum(bool(axis.images) for axis in drawn.axes) == count + len(bands)


def test_lines_of_networks_that_err_are_set_off():
    drawn = images.sheet("Title", ["a", "b"], [column("x", 2, ["cat", "dog"], [False, True])])
    weights = {axis.get_xlabel(): axis.xaxis.label.get_fontweight() for axis in drawn.axes if axis.get_xlabel()}
    assert weights == {"cat": "normal", "dog": "bold"}


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        (np.full((8, 8, 3), 16 / 255), 10),
        (np.full((8, 8, 1), -0.3), 2),
        (np.eye(28)[..., None], 1),
        (np.zeros((4, 4, 1)), 1),
        (np.full((8, 8, 3), 1e-4), 100),
    ],
)
def test_a_perturbation_is_magnified_until_it_can_be_seen(change, factor):
    assert images.magnification(change) == factor
    shown = images.perturbation(change, factor)
    assert shown.min() >= 0 and shown.max() <= 1
    np.testing.assert_allclose(shown[change == 0], 0.5)
    assert np.all((shown > 0.5) == (change > 0))


def test_classes_are_called_by_their_names():
    assert images.class_name(1, ("airplane", "automobile")) == "automobile"
    assert images.class_name(np.int32(7), ()) == "7" and images.class_name(-1, ("airplane",)) == "rejected"


# All of them


def legible(figure: Figure) -> bool:
    """True if no text is below 8 points where the figure is as wide as a page."""
    pixels = [text.get_fontsize() / 72 / figure.get_figwidth() * PAGE for text in texts(figure)]
    return min(pixels) >= 8 * 96 / 72


def test_every_figure_can_be_read_at_the_width_of_a_page():
    sizes = synthetic.record(poisoned=False, rates={f"standard_x{size}": {} for size in (1, 2, 4)})
    for at, arm in enumerate(sizes["arms"].values()):
        arm["parameters"] = 10**at
    captioned = column("carlini_wagner_linf", captions=["a"])
    drawn = [figures.results(made()), figures.curves(made()), figures.capacity(sizes)]
    assert all(map(legible, [*drawn, images.sheet("Title", ["a"], [captioned] * 8, column("clean"))]))


def test_capacity_is_the_record_and_crosses_void_networks():
    record = synthetic.record(
        poisoned=False, rates={f"{way}_x{size}": {} for way in ("standard", "pgd_at") for size in (1, 2, 4)}
    )
    for at, arm in enumerate(record["arms"].values()):
        arm["parameters"] = 10 ** (at % 3 + 2)
    for name in ("standard_x1", "standard_x2", "standard_x4"):
        assert record["config"]["arms"][list(record["arms"]).index(name)]["name"] == name
        record["config"]["arms"][list(record["arms"]).index(name)]["objective"] = {"type": "Standard"}
    record["warnings"] = ["pgd_at_x1, seed 0: collapsed: x"]
    (axis,) = figures.capacity(record).axes
    lines = {line.get_label(): line.get_xydata() for line in axis.lines if not line.get_label().startswith("_")}
    expected = {
        f"{way} training, {metric}"
        for way in ("standard", "adversarial")
        for metric in ("clean accuracy", "PGD accuracy")
    }
    assert lines.keys() == expected and {tuple(line[:, 0]) for line in lines.values()} == {(100, 1000, 10000)}
    clean, robust = (record["arms"]["pgd_at_x1"][name]["mean"] for name in ("clean_accuracy", "robust_accuracy"))
    assert points(axis, "x") == [(100, clean), (100, robust)]


def test_figures_are_written_beside_those_of_earlier_runs(tmp_path):
    (tmp_path / "images.png").write_bytes(b"earlier")
    drawn = figures.draw(made({"standard": 0.9, "$\\frac$": 0.5}), {"own": Figure()}, tmp_path)
    assert sorted(drawn) == ["curves.png", "images.png", "own.png", "results.png"]
    assert (tmp_path / "images.png").read_bytes() == b"earlier"
    figures.draw(made(), {}, tmp_path)
    first = (tmp_path / "results.png").read_bytes()
    figures.draw(made(), {}, tmp_path)
    assert (tmp_path / "results.png").read_bytes() == first


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_old_records_are_drawn_with_their_finding(path):
    record = upgraded(json.loads(path.read_text()))
    drawn = figures.results(record)
    assert len(drawn.axes[0].get_yticklabels()) == len(record["arms"])
    for rate in [word.strip("();,") for word in brief.finding(record).split() if "%" in word]:
        assert rate in record["finding"]
