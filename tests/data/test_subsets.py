"""Subsets keep rows whole, in split order, with their index."""

import numpy as np
import pytest

from poisonjax.data.subsets import All, AtMost, Stratified, Subset, Unbalanced
from poisonjax.overrides import members
from poisonjax.types import Examples, take


def examples(per_class, seed=0) -> Examples:
    """per_class[c] rows of class c in random order; the index differs from the position."""
    label = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(per_class)), per_class)).astype(np.int32)
    index = 3 * np.arange(len(label), dtype=np.int32) + 1
    return Examples(
        np.broadcast_to(index[:, None, None, None] % 256, (len(label), 2, 2, 1)).astype(np.uint8), label, index
    )


def assert_equal(found: Examples, expected: Examples):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def first(source: Examples, counts) -> Examples:
    """The specification, one row at a time."""
    left, rows = dict(counts), []
    for row, label in enumerate(source.label.tolist()):
        if left[label] > 0:
            left[label] -= 1
            rows.append(row)
    assert not any(left.values())
    return take(source, np.array(rows))


SUBSETS = (All(), Stratified(20), AtMost(30), Unbalanced(2, 6))


def test_the_contract_is_tested_for_every_subset():
    own = {kind for kind in members(Subset) if kind.__module__.startswith("poisonjax.")}
    assert own == set(map(type, SUBSETS))


@pytest.mark.parametrize("subset", SUBSETS, ids=str)
def test_a_subset_keeps_whole_rows_in_their_order(subset):
    source = examples([9, 7, 8, 7])
    before, found = [field.copy() for field in source], subset(source)
    assert (np.diff(found.index) > 0).all() and np.isin(found.index, source.index).all()
    assert_equal(found, take(source, np.isin(source.index, found.index)))
    assert_equal(source, Examples(*before))


def test_all_is_every_row():
    source = examples([3, 4, 5])
    assert_equal(All()(source), source)


def test_stratified_takes_the_first_rows_of_each_class():
    source = examples([9, 7, 8, 7])
    found = Stratified(20)(source)
    assert np.bincount(found.label).tolist() == [5, 5, 5, 5]
    assert_equal(found, first(source, dict.fromkeys(range(4), 5)))


def test_unbalanced_is_the_set_of_the_report_by_default():
    source = examples([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])  # MNIST train
    found = Unbalanced()(source)
    assert np.bincount(found.label).tolist() == [500] + [5000] * 9
    assert_equal(found, first(source, dict.fromkeys(range(10), 5000) | {0: 500}))


def test_unbalanced_with_another_class():
    source = examples([9, 9, 9])
    found = Unbalanced(minority=2, majority=6, minority_class=1)(source)
    assert_equal(found, first(source, {0: 6, 1: 2, 2: 6}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stratified(0), "^rows must be a whole number of at least 1, got 0$"),
        (lambda: Stratified(-10), "^rows must be a whole number of at least 1, got -10$"),
        (lambda: Stratified(2.0), "^rows must be a whole number of at least 1, got 2.0$"),
        (lambda: Unbalanced(minority=0), "^minority must be a whole number of at least 1, got 0$"),
        (lambda: Unbalanced(majority=True), "^majority must be a whole number of at least 1, got True$"),
        (lambda: Stratified(7)(examples([5, 5])), r"^Stratified\(rows=7\): rows must be a multiple of the 2 classes$"),
        (lambda: Stratified(12)(examples([5, 9])), "needs 6 rows of class 0, there are 5"),
        (lambda: Stratified(10)(examples([])), r"^Stratified\(rows=10\): rows must be a multiple of the 0 classes$"),
        (lambda: Unbalanced(2, 6)(examples([5, 5])), "needs 6 rows of class 1, there are 5"),
        (lambda: Unbalanced(6, 5)(examples([5, 5])), "needs 6 rows of class 0, there are 5"),
        (
            lambda: Unbalanced(1, 2, minority_class=2)(examples([5, 5])),
            r"minority_class=2\): minority_class must be one of the classes \[0, 1\]$",
        ),
    ],
)
def test_bad_subsets_are_one_line(make, message):
    with pytest.raises(ValueError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
