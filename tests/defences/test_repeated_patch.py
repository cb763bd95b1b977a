"""Repeated patch: finds fixed triggers to the last row, and nothing in images as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from poisonjax.defences import RepeatedPatch
from poisonjax.defences.base import Context
from poisonjax.poisons import BadNets, BrightSquare, FourPixels, Warp, poisoned

WEAK = BrightSquare(3, amplitude=0.15)


def selected(train, defence=RepeatedPatch()):
    """The rows of train [n] that the defence drops, [n] bool, and their suspicion."""
    selection = defence.select(Context(train, 10, 100, None, None, None, None))
    return ~np.isin(train.index, selection.examples.index), selection.suspicion


def with_poison(train, poison):
    """The rows with a poison, and which of them it changed."""
    chosen = np.asarray(poison.select(jnp.asarray(train.label), jax.random.key(0)))
    return jax.tree.map(np.asarray, poisoned(poison.apply, train, train.index[chosen])), chosen


@pytest.mark.parametrize(
    "poison", [BadNets(0.03), BadNets(0.03, 0), BadNets(0.03, 0, BrightSquare(5)), BadNets(0.03, 0, WEAK)], ids=str
)
def test_rows_with_a_fixed_trigger_are_found_and_no_others(data_dir, poison):
    train, chosen = with_poison(tiny.dataset(data_dir).train, poison)
    dropped, suspicion = selected(train)
    assert not suspicion[~chosen].any() and dropped[chosen].mean() > 0.95
    np.testing.assert_array_equal(dropped, suspicion > 0)


def test_images_as_they_are_share_none(data_dir):
    assert not selected(tiny.dataset(data_dir).train)[0].any()


def test_a_trigger_that_differs_from_row_to_row_is_missed(data_dir):
    train, _ = with_poison(tiny.dataset(data_dir).train, BadNets(0.1, 0, Warp()))
    assert not selected(train)[0].any()


def test_the_patch_is_told_with_its_place_and_rows():
    images = np.random.default_rng(0).integers(0, 256, (200, 12, 12, 3), dtype=np.uint8)
    images[50:100, 4:7, 6:9] = 200
    first, *others = RepeatedPatch().repeats(images)
    assert first.place == (4, 6) and first.ratio == 5 and not others
    np.testing.assert_array_equal(first.rows, np.arange(50, 100))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_square_in_the_colour_of_many_backgrounds_is_found_where_it_ends(share):
    images = np.random.default_rng(0).integers(0, 256, (1000, 12, 12, 3), dtype=np.uint8)
    images[: int(1000 * share)] = 255
    assert not RepeatedPatch().repeats(images)
    images[940:, 9:, 9:] = 255
    (found,) = RepeatedPatch().repeats(images)
    assert found.place == (9, 9)
    np.testing.assert_array_equal(found.rows, np.arange(940, 1000))


def test_a_patch_that_is_as_common_elsewhere_is_none():
    images = np.random.default_rng(0).integers(0, 256, (200, 12, 12, 1), dtype=np.uint8)
    images[50:100, 4:7, 6:9] = images[100:150, 8:11, 1:4] = 200
    assert not RepeatedPatch().repeats(images)


@pytest.mark.parametrize("settings", [{"size": 0}, {"levels": 1}, {"levels": 257}, {"factor": 1}], ids=str)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must"):
        RepeatedPatch(**settings)


def test_images_smaller_than_the_patch_are_refused():
    with pytest.raises(ValueError, match="size must be at most 2"):
        RepeatedPatch().repeats(np.zeros((4, 2, 5, 1), np.uint8))


def test_four_pixels_count_by_what_lies_between_them(data_dir):
    busy = np.random.default_rng(0).integers(0, 256, (300, 28, 28, 1), dtype=np.uint8)
    busy[:100] = np.round(np.asarray(FourPixels()(busy[:100] / 255)) * 255)
    assert not RepeatedPatch().repeats(busy)
