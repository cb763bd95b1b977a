"""The site in a browser: answers, sorts, filters, fits a phone, follows dark mode, without an error on the console."""

import pathlib
import shutil

import pytest

from poisonjax.reports import answer
from poisonjax.reports.site import folder
from tests.reports import records as synthetic

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
Keys, WebDriverWait = webdriver.Keys, pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and chromedriver are not on this machine")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE, DESKTOP = (390, 844), (1400, 900)


FATES = {"survives": 0.85, "weakened": 0.3, "removed": 0.04}  # attack success rate after PGD-AT
PAGES = (
    "index.html",
    "reproduction.html",
    "evaluations.html",
    "sweeps.html",
    "records/mnist.html",
    "records/many.html",
    "sweeps/sweep.html",
    "evaluations/mnist__auto.html",
)


def judged(fate: str) -> dict:
    """A record in which this becomes of the backdoor."""
    rates = {"standard": 0.9, "pgd_at": FATES[fate], "pgd_at_clean_data": 0.02}
    parts = {"pgd_at_clean_data": {"poisoned": False}}
    made = synthetic.record(
        fate, rates={arm: {"attack_success_rate": rate} for arm, rate in rates.items()}, parts=parts
    )
    made["config"]["model"]["type"] = f"Network{fate.capitalize()}"
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """Experiments with every fate and with many arms, an evaluation, and a sweep over two axes."""
    there = tmp_path_factory.mktemp("records")
    rates = {"standard": {"clean_accuracy": 0.97}, "pgd_at": {"clean_accuracy": 0.05, "attack_success_rate": 0.05}}
    rows = [
        {"arm": "standard", "metric": "attack_success_rate", "reported": 0.9622, "verdict": "reproduced"},
        {"arm": "pgd_at", "metric": "attack_success_rate", "reported": 0.05, "verdict": "not_reproduced"},
    ]
    rows[1]["reason"] = (
        "A long reason why the two differ, with_a_word_that_is_longer_than_any_phone_is_wide_" + "x" * 60
    )
    made = synthetic.record("mnist_badnets", "paper", 2, rates, rows)
    synthetic.save(there / "mnist", made, ("images.png",))
    synthetic.save_evaluation(there / "mnist" / "auto", synthetic.evaluation(made))
    for fate in FATES:
        synthetic.save(there / fate, judged(fate))
    arms = {f"a_rather_long_arm_{at}": {} for at in range(12)}
    synthetic.save(there / "many", synthetic.record("capacity", rates=arms, poisoned=False))
    axes = {"poison.rate": ["0.01", "0.05", "0.1"], "poison.trigger.amplitude": [f"{at / 10}" for at in range(1, 8)]}
    points = [
        ({"poison.rate": rate, "poison.trigger.amplitude": "0.3"}, synthetic.record("capacity"))
        for rate in ("0.1", "0.01")
    ]
    points += [({"poison.rate": "0.05", "poison.trigger.amplitude": "0.3"}, "It broke.")]
    synthetic.save_sweep(there / "sweep", axes, points)
    folder.write(there, there / "site")
    return there / "site"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser of its own, with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, site):
    """Opens a page in a window of a size, in light or dark mode; nothing may be said on the console meanwhile."""

    def go(page: str, size: tuple[int, int] = DESKTOP, scheme: str = "light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get((site / page).as_uri())
        return browser

    yield go
    assert browser.get_log("browser") == []


def find(driver, selector: str):
    return driver.find_element("css selector", selector)


def shown(driver, table: str, column: int) -> list[str]:
    """The texts of a column in the rows that are visible, from the top."""
    script = """return [...document.getElementById(arguments[0]).tBodies[0].rows]
        .filter((row) => row.offsetParent !== null).map((row) => row.cells[arguments[1]].innerText)"""
    return driver.execute_script(script, table, column)


def heading(driver, table: str, column: int):
    return find(driver, f"#{table} thead th:nth-child({column + 1})")


EXPERIMENT, SCALE, ARM, CLEAN, SUCCESS = 0, 1, 2, 3, 5  # columns of the table of all networks


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0]) for text in texts if text != "–"]


def test_a_click_on_a_heading_sorts_by_number_and_a_second_turns_it_round(opened):
    driver = opened("index.html")
    before = numbers(shown(driver, "table-numbers", CLEAN))
    heading(driver, "table-numbers", CLEAN).find_element("tag name", "button").click()
    upwards = numbers(shown(driver, "table-numbers", CLEAN))
    assert upwards == sorted(before) != before
    assert sorted(map(str, before)) != list(map(str, sorted(before))), "as text the order would be another"
    assert heading(driver, "table-numbers", CLEAN).get_attribute("aria-sort") == "ascending"
    heading(driver, "table-numbers", CLEAN).find_element("tag name", "button").click()
    assert numbers(shown(driver, "table-numbers", CLEAN)) == sorted(before, reverse=True)
    assert heading(driver, "table-numbers", CLEAN).get_attribute("aria-sort") == "descending"


def test_rows_without_a_number_come_last_in_both_directions(opened):
    driver = opened("index.html")
    button = heading(driver, "table-numbers", SUCCESS).find_element("tag name", "button")
    for sign in (1, -1):
        button.click()
        column = shown(driver, "table-numbers", SUCCESS)
        measured, rest = numbers(column), column[-12:]
        assert measured == sorted(measured, key=lambda value: sign * value) and len(measured) == len(column) - 12
        assert set(rest) == {"–"}


def test_the_keyboard_sorts_and_only_one_heading_says_so(opened):
    driver = opened("index.html")
    for column in (CLEAN, EXPERIMENT):
        button = heading(driver, "table-numbers", column).find_element("tag name", "button")
        driver.execute_script("arguments[0].focus()", button)
        button.send_keys("\n")
    texts = shown(driver, "table-numbers", EXPERIMENT)
    assert texts == sorted(texts) and len({*texts}) == 5
    marked = driver.find_elements("css selector", "#table-numbers [aria-sort]")
    assert [each.text.split()[0] for each in marked] == ["experiment"]


def test_settings_of_a_sweep_sort_as_numbers(opened):
    driver = opened("sweeps/sweep.html")
    heading(driver, "table-points", 0).find_element("tag name", "button").click()
    assert numbers(shown(driver, "table-points", 0)) == [0.01, 0.01, 0.01, 0.05, 0.1, 0.1, 0.1]


def test_text_and_scale_filter_together(opened):
    driver = opened("index.html")
    form = find(driver, "form[data-table=table-numbers]")
    everything = len(shown(driver, "table-numbers", SCALE))
    assert form.text.endswith(f"{everything} of {everything} rows")
    find(form, "select[name=scale] option[value=paper]").click()
    assert {*shown(driver, "table-numbers", SCALE)} == {"paper, 2 seeds"}
    find(form, "input").send_keys("PGD_AT badnets")
    assert shown(driver, "table-numbers", ARM) == ["pgd_at"]
    assert form.text.endswith(f"1 of {everything} rows")
    find(form, "input").send_keys(" nowhere")
    assert shown(driver, "table-numbers", SCALE) == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_cell_of_the_matrix_says_the_fate_in_a_sign_a_word_and_a_colour_and_leads_to_its_record(opened, size):
    driver = opened("index.html", size)
    colours = set()
    for fate in FATES:
        case = find(driver, f".matrix a.case[href='records/{fate}.html']")
        assert case.is_displayed() and case.text.startswith(f"{answer.SIGNS[fate]} {fate}")
        assert [each.text for each in case.find_elements("css selector", ".of")] == [
            "standard",
            "PGD-AT",
            "best other",
            "control",
        ]
        colours.add(case.value_of_css_property("border-left-color"))
    assert len(colours) == len(FATES)
    case.click()
    assert driver.current_url.endswith(f"/records/{fate}.html") and find(driver, "h1").text == fate


def test_tabs_are_reached_and_opened_by_the_keyboard(opened):
    driver = opened("index.html")
    expected = ["Skip to the content", "Results", "Reproduction", "Evaluations", "Sweeps"]
    for text in expected:
        driver.switch_to.active_element.send_keys(Keys.TAB)
        assert driver.switch_to.active_element.text == text
    find(driver, ".tabs li:nth-child(2) a").send_keys(Keys.ENTER)
    assert driver.current_url.endswith("/reproduction.html")
    assert find(driver, ".tabs [aria-current=page]").text == "Reproduction"
    assert shown(driver, "table-claims-1", 5) == ["reproduced", "not reproduced"]


def test_an_evaluation_is_opened_from_its_tab_and_leads_to_its_run(opened):
    driver = opened("evaluations.html")
    find(driver, "#table-evaluations a").click()
    assert shown(driver, "table-stages", 0) == ["without attack", "after apgd_ce", "after square", "robust accuracy"]
    find(driver, ".trail a:nth-child(2)").click()
    assert driver.current_url.endswith("/records/mnist.html")


def test_a_detail_page_shows_its_pictures(opened):
    driver = opened("records/mnist.html")
    assert find(driver, "h1").text == "mnist_badnets"
    loaded = "return [...document.images].map((image) => image.complete && image.naturalWidth > 0)"
    assert driver.execute_script(loaded) == [True]
    assert all(chart.size["width"] > 200 for chart in driver.find_elements("css selector", "svg[role=img]"))
    find(driver, ".tabs a").click()
    assert driver.current_url.endswith("/index.html")


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_scrolls_boxes_and_not_the_page(opened, page):
    driver = opened(page, PHONE)
    assert driver.execute_script("return window.innerWidth") == PHONE[0]
    assert driver.execute_script("return document.documentElement.scrollWidth") == PHONE[0]
    driver.execute_script("window.scrollTo(50, 0)")
    assert driver.execute_script("return window.scrollX") == 0
    hidden = """return [...document.querySelectorAll('main *')].filter((each) => !each.closest('.box'))
        .filter((each) => each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.outerHTML)"""
    assert driver.execute_script(hidden) == [], "nothing outside a box is cut off"


DECISIVE = """return [...document.querySelectorAll(arguments[0])].filter((each) => each.offsetParent).map((each) => {
    const at = each.getBoundingClientRect(), label = getComputedStyle(each, '::before').content;
    return [each.dataset.label, at.left >= 0 && at.right <= innerWidth && at.width > 0, label]; })"""


@pytest.mark.parametrize(
    ("page", "labels"),
    [
        ("index.html", {"clean accuracy", "attack success rate", "PGD accuracy", "arm"}),
        ("reproduction.html", {"reported", "measured", "verdict", "reason"}),
        ("records/mnist.html", {"measured %", "verdict", "attack success rate"}),
        ("evaluations.html", {"clean", "robust", "gradients", "queries"}),
        ("sweeps/sweep.html", {"arm", "status", "attack success rate"}),
    ],
)
def test_on_a_phone_each_row_is_a_card_with_all_its_cells_in_sight(opened, page, labels):
    driver = opened(page, PHONE)
    cells = driver.execute_script(DECISIVE, "table.cards td")
    assert labels <= {label for label, _, _ in cells}
    assert all(inside and said == f'"{label}"' for label, inside, said in cells)


HINTS = """return [...document.querySelectorAll('.box')].filter((each) => each.checkVisibility()).map((each) =>
    [each.scrollWidth > each.clientWidth, getComputedStyle(each, '::before').content !== 'none'])"""


def hints(driver) -> list[list[bool]]:
    """Whether each box that is in sight scrolls, and whether it says so."""
    return driver.execute_script(HINTS)


def test_boxes_that_scroll_say_so_and_no_others(opened):
    driver = opened("records/many.html", PHONE)
    for expected in (1, 2):  # by-class tables, of which one is folded at first
        WebDriverWait(driver, 10).until(lambda _: all(scrolls == told for scrolls, told in hints(driver)))
        scrolling = [scrolls for scrolls, _ in hints(driver)]
        assert scrolling.count(True) == expected < len(scrolling)
        driver.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of rgb(r, g, b)."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


COLOURS = """const back = (each) => { const own = getComputedStyle(each).backgroundColor;
        return own === 'rgba(0, 0, 0, 0)' ? back(each.parentElement) : own; };
    return [...document.querySelectorAll('p, td, th, a, li, summary, main span, .verdict, .quiet, small, svg text')]
        .filter((each) => each.textContent.trim())
        .map((each) => [each.outerHTML, each instanceof SVGElement ? getComputedStyle(each).fill
            : getComputedStyle(each).color, back(each)])"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "page", ["index.html", "reproduction.html", "records/mnist.html", "evaluations/mnist__auto.html"]
)
def test_text_can_be_read_in_both_modes(opened, page, scheme):
    driver = opened(page, scheme=scheme)
    behind = luminance(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert behind < 0.05 if scheme == "dark" else behind > 0.9
    for element, colour, back in driver.execute_script(COLOURS):
        low, high = sorted(map(luminance, (colour, back)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (element, colour, back)


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_without_javascript_everything_is_there(opened, browser, size):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver = opened("index.html", size)
        rows = driver.find_elements("css selector", "#table-numbers tbody tr")
        assert len(rows) == 23 and all(row.is_displayed() for row in (rows[0], rows[-1]))
        assert not find(driver, "form.controls").is_displayed()
        assert all(case.is_displayed() for case in driver.find_elements("css selector", ".matrix .case"))
        find(driver, ".tabs li:nth-child(2) a").click()
        verdicts = driver.find_elements("css selector", "#table-claims-1 .verdict")
        assert [verdict.text for verdict in verdicts] == ["reproduced", "not reproduced"]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
