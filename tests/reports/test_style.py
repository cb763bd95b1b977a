"""One look everywhere: arms are recognised with and without colour, on light and on dark pages."""

import itertools
import math
import re

import pytest

from poisonjax.reports import style
from poisonjax.reports.site import reading

REPORT = ("standard", "pgd_at_as_reported", "pgd_at", "pgd_at_as_reported_clean_data", "standard_clean_data")
SIZES = [f"{way}_x{size}" for way in ("standard", "pgd_at") for size in (1, 2, 4, 8, 16)]
OTHERS = [f"arm_{at}" for at in range(12)]
THEMES = pytest.mark.parametrize("theme", [style.LIGHT, style.DARK])


@pytest.mark.parametrize("arms", [REPORT, SIZES, OTHERS, (*REPORT, *OTHERS[:4])])
def test_arms_differ_without_their_colours(arms):
    looks = style.looks(arms)
    assert list(looks) == list(arms)
    assert len({(look.marker, look.dash, look.filled) for look in looks.values()}) == len(arms)


def test_a_kind_of_training_has_its_colour_and_marker_in_any_company():
    alone = {name: style.looks([name])[name] for name in ("standard", "pgd_at", "pgd_at_as_reported")}
    for company in itertools.permutations(["pgd_at", "filter", "pgd_at_as_reported", "standard"]):
        for name, look in style.looks(company).items():
            if name in alone:
                assert look[:2] == alone[name][:2]
    assert style.looks(["pgd_at_x16"])["pgd_at_x16"] == alone["pgd_at"] and len({*alone.values()}) == 3
    fixed = {look.slot for look in alone.values()} | {style.GREY}
    assert not fixed & {style.looks([name])[name].slot for name in ("pgd_attack", "standards", "filter")}


def test_controls_alone_are_grey_and_hollow():
    by_name, told = style.looks(REPORT), style.looks(["standard", "mine", "yours"], controls=["mine"])
    grey = [name for looks in (by_name, told) for name, look in looks.items() if look.slot == style.GREY]
    assert grey == [*REPORT[3:], "mine"]
    for name, look in (by_name | told).items():
        face = look.line(style.LIGHT)["markerfacecolor"]
        assert (face == style.LIGHT.paper) == (name in grey) == (not look.filled)


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@THEMES
def test_lines_and_texts_stand_out_from_the_paper(theme):
    assert min(contrast(colour, theme.paper) for colour in theme.series) >= 2.95
    assert min(contrast(colour, theme.paper) for colour in (theme.ink, theme.quiet)) >= 4.5


@THEMES
def test_the_style_sheet_of_the_site_has_the_same_colours(theme):
    css = (reading.HERE / "static" / "site.css").read_text().lower()
    light, dark = css.split("prefers-color-scheme: dark")[:2]
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if theme is style.LIGHT else dark))
    named = {name: getattr(theme, name) for name in ("paper", "ink", "quiet", "rule")}
    named |= {f"series-{slot}": colour for slot, colour in enumerate(theme.series)}
    assert {name: found[name] for name in named} == named


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.951, 0.969], (0.9, 1.0)),
        ([0.04, 0.98], (0.0, 1.0)),
        ([0.51, 0.62], (0.5, 0.7)),
        ([1.0, 1.0], (0.9, 1.0)),
        ([0.0], (0.0, 0.1)),
        ([0.3], (0.3, 0.4)),
        ([0.33, math.nan], (0.3, 0.4)),
        ([math.nan], (0.0, 1.0)),
        ([], (0.0, 1.0)),
    ],
)
def test_axes_in_percent_show_where_the_values_are(values, shown):
    assert style.percent_range(values) == shown
