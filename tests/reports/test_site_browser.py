"""The site in a browser: sorts, filters, fits a phone, follows dark mode, without an error on the console."""

import pathlib
import shutil

import pytest

from poisonjax.reports.site import folder
from tests.reports import records as synthetic

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

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
PHONE, DESKTOP = (375, 812), (1280, 900)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """Two experiments and a sweep over two axes."""
    there = tmp_path_factory.mktemp("records")
    rates = {"standard": {"clean_accuracy": 0.97, "attack_success_rate": 0.9}, "pgd_at": {"attack_success_rate": 0.05}}
    rows = [
        {"arm": "standard", "metric": "attack_success_rate", "reported": 0.9622, "verdict": "reproduced"},
        {"arm": "pgd_at", "metric": "attack_success_rate", "reported": 0.05, "verdict": "not_reproduced"},
    ]
    rows[1]["reason"] = (
        "A long reason why the two differ, with_a_word_that_is_longer_than_any_phone_is_wide_" + "x" * 60
    )
    synthetic.save(there / "mnist", synthetic.record("mnist_badnets", "paper", 2, rates, rows), ("images.png",))
    synthetic.save(
        there / "many", synthetic.record("capacity", rates={f"a_rather_long_arm_{at}": {} for at in range(12)})
    )
    axes = {"poison.rate": ["0.01", "0.05", "0.1"], "poison.trigger.amplitude": [f"{at / 10}" for at in range(1, 8)]}
    points = [({"poison.rate": "0.1", "poison.trigger.amplitude": "0.3"}, synthetic.record("capacity"))]
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


REPORTED, MEASURED, EXPERIMENT, SCALE, VERDICT = 5, 6, 0, 1, 8


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0]) for text in texts if text != "–"]


def test_a_click_on_a_heading_sorts_by_number_and_a_second_turns_it_round(opened):
    driver = opened("index.html")
    before = numbers(shown(driver, "table-numbers", MEASURED))
    heading(driver, "table-numbers", MEASURED).find_element("tag name", "button").click()
    upwards = numbers(shown(driver, "table-numbers", MEASURED))
    assert upwards == sorted(before) != before
    assert sorted(map(str, before)) != list(map(str, sorted(before))), "as text the order would be another"
    assert heading(driver, "table-numbers", MEASURED).get_attribute("aria-sort") == "ascending"
    heading(driver, "table-numbers", MEASURED).find_element("tag name", "button").click()
    assert numbers(shown(driver, "table-numbers", MEASURED)) == sorted(before, reverse=True)
    assert heading(driver, "table-numbers", MEASURED).get_attribute("aria-sort") == "descending"


def test_rows_without_a_number_come_last_in_both_directions(opened):
    driver = opened("index.html")
    button = heading(driver, "table-numbers", REPORTED).find_element("tag name", "button")
    for expected in (["5.00", "96.22"], ["96.22", "5.00"]):
        button.click()
        column = shown(driver, "table-numbers", REPORTED)
        assert [text.split()[0] for text in column[:2]] == expected
        assert set(column[2:]) == {"–"}


def test_the_keyboard_sorts_and_only_one_heading_says_so(opened):
    driver = opened("index.html")
    for column in (MEASURED, EXPERIMENT):
        button = heading(driver, "table-numbers", column).find_element("tag name", "button")
        driver.execute_script("arguments[0].focus()", button)
        button.send_keys("\n")
    texts = shown(driver, "table-numbers", EXPERIMENT)
    assert texts == sorted(texts) and len({*texts}) == 2
    marked = driver.find_elements("css selector", "#table-numbers [aria-sort]")
    assert [each.text.split()[0] for each in marked] == ["experiment"]


def test_settings_of_a_sweep_sort_as_numbers(opened):
    driver = opened("sweeps/sweep.html")
    heading(driver, "table-points", 0).find_element("tag name", "button").click()
    assert numbers(shown(driver, "table-points", 0)) == [0.05, 0.1, 0.1, 0.1]


def test_text_scale_and_verdict_filter_together(opened):
    driver = opened("index.html")
    form = find(driver, "form[data-table=table-numbers]")
    everything = len(shown(driver, "table-numbers", SCALE))
    assert form.text.endswith(f"{everything} of {everything} rows")
    find(form, "select[name=scale] option[value=paper]").click()
    assert {*shown(driver, "table-numbers", SCALE)} == {"paper"}
    find(form, "select[name=verdict] option[value=not_reproduced]").click()
    assert shown(driver, "table-numbers", VERDICT) == ["not reproduced"]
    assert form.text.endswith(f"1 of {everything} rows")
    find(form, "select[name=verdict] option[value='']").click()
    find(form, "input").send_keys("PGD_AT success")
    assert shown(driver, "table-numbers", MEASURED - 2) == ["attack success rate"]
    find(form, "input").send_keys(" nowhere")
    assert shown(driver, "table-numbers", SCALE) == []


def test_a_detail_page_opens_by_its_link_and_shows_its_pictures(opened):
    driver = opened("index.html")
    find(driver, "#findings a").click()
    assert driver.current_url.endswith("/records/mnist.html")
    assert find(driver, "h1").text == "mnist_badnets"
    loaded = "return [...document.images].map((image) => image.complete && image.naturalWidth > 0)"
    assert driver.execute_script(loaded) == [True]
    assert all(chart.size["width"] > 200 for chart in driver.find_elements("css selector", "svg[role=img]"))
    find(driver, ".bar a").click()
    assert driver.current_url.endswith("/index.html")


@pytest.mark.parametrize("page", ["index.html", "records/mnist.html", "records/many.html", "sweeps/sweep.html"])
def test_a_phone_scrolls_tables_and_not_the_page(opened, page):
    driver = opened(page, PHONE)
    assert driver.execute_script("return window.innerWidth") == PHONE[0]
    assert driver.execute_script("return document.documentElement.scrollWidth") == PHONE[0]
    driver.execute_script("window.scrollTo(50, 0)")
    assert driver.execute_script("return window.scrollX") == 0
    hidden = """return [...document.querySelectorAll('main *')].filter((each) => !each.closest('.box'))
        .filter((each) => each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.outerHTML)"""
    assert driver.execute_script(hidden) == [], "nothing outside a box is cut off"
    boxes = "return [...document.querySelectorAll('.box')].some((each) => each.scrollWidth > each.clientWidth)"
    assert driver.execute_script(boxes), "wide tables scroll inside their box"


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of rgb(r, g, b)."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


COLOURS = """const back = (each) => { const own = getComputedStyle(each).backgroundColor;
        return own === 'rgba(0, 0, 0, 0)' ? back(each.parentElement) : own; };
    return [...document.querySelectorAll('p, td, th, a, li, .verdict, .quiet, small, .std, svg text')]
        .filter((each) => each.textContent.trim())
        .map((each) => [each.outerHTML, each instanceof SVGElement ? getComputedStyle(each).fill
            : getComputedStyle(each).color, back(each)])"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index.html", "records/mnist.html"])
def test_text_can_be_read_in_both_modes(opened, page, scheme):
    driver = opened(page, scheme=scheme)
    behind = luminance(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert behind < 0.05 if scheme == "dark" else behind > 0.9
    for element, colour, back in driver.execute_script(COLOURS):
        low, high = sorted(map(luminance, (colour, back)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (element, colour, back)


def test_without_javascript_every_row_is_there(opened, browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver = opened("index.html")
        rows = driver.find_elements("css selector", "#table-numbers tbody tr")
        assert len(rows) > 50 and all(row.is_displayed() for row in (rows[0], rows[-1]))
        assert not find(driver, "form.controls").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
