"""Files of the package ember: labelled rows alone, each feature by its rank among training rows, and refusals."""

import numpy as np
import own_files
import pytest

from poisonjax.data import DataError, Reading, ember, load, tables

RNG = np.random.default_rng(0)
ROWS = {"train": 90, "test": 30}
# Frequencies with a long tail, few values, one value, and large numbers, as the features of EMBER are.
VALUES = {
    split: np.column_stack(
        [np.exp(RNG.normal(size=n)), RNG.integers(0, 3, n), np.full(n, 7), RNG.integers(0, 2**31, n)]
    ).astype(np.float32)
    for split, n in ROWS.items()
}
LABELS = {split: RNG.integers(-1, 2, n) for split, n in ROWS.items()}


@pytest.fixture
def folder(tmp_path):
    arrays = {f"X_{split}": VALUES[split] for split in ROWS} | {f"y_{split}": LABELS[split] for split in ROWS}
    return own_files.ember(tmp_path / "ember", **arrays)


@pytest.fixture
def loaded(folder, tmp_path):
    return load(f"ember:{folder}", str(tmp_path))


def labelled(split):
    return np.flatnonzero(LABELS[split] >= 0)


def test_labelled_rows_come_back_with_their_labels_and_names(folder, loaded):
    rows = np.array([int(name.removeprefix("train:")) for name in loaded.names])
    np.testing.assert_array_equal(np.sort(rows), labelled("train"))
    np.testing.assert_array_equal(loaded.train.label, LABELS["train"][rows])
    np.testing.assert_array_equal(loaded.train.image, tables.levels(VALUES["train"][labelled("train")])[_place(rows)])
    assert (loaded.label_names, loaded.classes) == (("benign", "malicious"), 2)
    assert (loaded.train.image.dtype, loaded.train.image.shape[1]) == (np.uint8, 4)
    assert np.bincount(loaded.test.label).tolist() == np.bincount(LABELS["test"][labelled("test")]).tolist()
    assert loaded.facts["left out"] == f"{sum((labels < 0).sum() for labels in LABELS.values())} unlabelled rows"
    assert f"{len(labelled('train'))} training rows" in loaded.facts["features"]


def _place(rows):
    """The place of each row among the labelled ones."""
    return np.searchsorted(labelled("train"), rows)


def test_test_rows_are_scaled_by_the_values_of_training_rows(loaded):
    """The level of a value is that of the highest labelled training value up to it."""
    expected = []
    for values, seen in zip(VALUES["test"][labelled("test")].T, VALUES["train"][labelled("train")].T, strict=True):
        distinct = np.unique(seen)
        rank = np.maximum((distinct <= values[:, None]).sum(1) - 1, 0)
        expected.append(np.round(rank * 255 / max(len(distinct) - 1, 1)).astype(int))
    assert sorted(map(tuple, loaded.test.image.tolist())) == sorted(zip(*expected, strict=True))
    assert not loaded.train.image[:, 2].any()


def test_levels_are_fitted_to_a_bounded_number_of_rows_read_in_pieces(folder, tmp_path, monkeypatch, loaded):
    monkeypatch.setattr(ember, "_CHUNK", 7)
    assert load(f"ember:{folder}", str(tmp_path / "a")).sha256 == loaded.sha256
    monkeypatch.setattr(ember, "_FITTED", 5)
    made, rows = load(f"ember:{folder}", str(tmp_path / "a")), labelled("train")
    fitted = rows[np.linspace(0, len(rows) - 1, 5).round().astype(int)]
    places = [made.names.index(f"train:{row}") for row in fitted]
    np.testing.assert_array_equal(made.train.image[places], tables.levels(VALUES["train"][fitted]))
    assert "5 training rows" in made.facts["features"]


def test_what_was_scaled_is_kept_until_a_file_changes(folder, tmp_path, monkeypatch, loaded):
    with monkeypatch.context() as patch:
        patch.setattr(ember, "_levelled", None)
        again = load(f"ember:{folder}", str(tmp_path))
    assert again.sha256 == loaded.sha256 and again.names == loaded.names
    other = load(f"ember:{folder}", str(tmp_path), Reading(split_seed=1))
    same = [other.names.index(name) for name in loaded.names]
    np.testing.assert_array_equal(other.train.image[same], loaded.train.image)
    assert other.names != loaded.names
    own_files.ember(folder, **{"X_train": VALUES["train"][::-1], "X_test": None, "y_test": None, "y_train": None})
    assert load(f"ember:{folder}", str(tmp_path)).sha256 != loaded.sha256


BAD = {
    "no file": ({"y_test": None}, "y_test.dat' cannot be read: No such file"),
    "no labels": ({"y_train": []}, "y_train.dat must have a float32 for each row, got 0 bytes"),
    "no rows": ({"X_train": []}, "X_train.dat must have as many float32 for each of the 12 labels, got 0 bytes"),
    "a row too few": ({"X_train": np.zeros((11, 5))}, "for each of the 12 labels, got 220 bytes"),
    "other features": ({"X_test": np.zeros((6, 4))}, "X_test.dat must have the 5 features of X_train.dat, got 4"),
    "another label": ({"y_train": [0, 1, 2] * 4}, "-1 unlabelled, got 2 in row 2"),
    "a label that is no number": ({"y_test": [0, 1, np.nan] * 2}, "-1 unlabelled, got nan in row 2"),
    "one class": (
        {"y_train": [0, -1] * 6},
        "y_train.dat must have rows of both classes, got none labelled 1 malicious",
    ),
    "no number": ({"X_train": np.where(np.arange(60) == 37, np.nan, 0)}, "X_train.dat must have finite numbers, got"),
    "infinite": (
        {"X_test": np.where(np.arange(30) == 27, np.inf, 0)},
        "X_test.dat must have finite numbers, got others",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_in_one_line(kind, tmp_path):
    changed, message = BAD[kind]
    with pytest.raises(DataError) as caught:
        load(f"ember:{own_files.ember(tmp_path / 'ember', **changed)}", str(tmp_path))
    line = str(caught.value)
    assert message in line and line.startswith("ember:") and "\n" not in line
    if "finite" in message:
        assert line.endswith("in row 7" if kind == "no number" else "in row 5")


def test_what_is_for_images_is_refused(folder):
    with pytest.raises(DataError, match="has rows of features; leave out image_size and channels"):
        load(f"ember:{folder}", reading=Reading(image_size=8))


def test_unlabelled_rows_may_have_any_values(tmp_path):
    values = np.where(np.arange(60) < 5, np.nan, np.arange(60))  # the first row
    made = load(f"ember:{own_files.ember(tmp_path / 'ember', X_train=values)}", str(tmp_path))
    assert len(made.train.label) == 8 and made.train.image.max() == 255
