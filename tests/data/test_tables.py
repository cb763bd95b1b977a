"""Rows of features that come with the package: scaled to 8 bits, and no row in both splits."""

import hashlib

import numpy as np
import pytest

from poisonjax.cli import main
from poisonjax.data import DataError, from_arrays, load, raw, sources, stream, tables

CARRIED = [name for name, source in sources.SOURCES.items() if source.carried]


def test_the_package_carries_two_tables():
    assert CARRIED == ["phishing", "spambase"]


@pytest.mark.parametrize("name", CARRIED)
def test_loaded_rows_have_the_documented_types_and_shapes(name):
    loaded, source = load(name), sources.find(name)
    assert (loaded.train.image.shape[1:], loaded.classes, loaded.version) == (source.shape, 2, "1.0.0")
    for examples, rows in zip((loaded.train, loaded.test), source.rows, strict=True):
        assert (examples.image.shape, examples.image.dtype) == ((rows, *source.shape), np.uint8)
        assert (examples.label.dtype, examples.index.dtype) == (np.int32, np.int32)
        assert set(examples.label.tolist()) == {0, 1} and not examples.image.flags.writeable
        np.testing.assert_array_equal(examples.index, np.arange(rows))
    content = b"".join(a.tobytes() for split in (loaded.train, loaded.test) for a in (split.image, split.label))
    assert hashlib.sha256(content).hexdigest() == loaded.sha256


@pytest.mark.parametrize("name", CARRIED)
def test_no_row_is_in_both_splits_and_a_fifth_of_the_distinct_ones_is_for_testing(name):
    loaded = load(name)
    train, test = ({row.tobytes() for row in split.image} for split in (loaded.train, loaded.test))
    assert not train & test
    assert len(test) == (len(train) + len(test)) // 5


def test_phishing_is_exact_in_8_bits():
    """Result is 1 for legitimate sites, and the three values of a feature are at equal distances."""
    content = tables.content("phishing_websites.csv").decode().split("\n")
    table = np.array([line.split(",")[1:] for line in content[1:] if line], int)
    shipped = sorted(map(tuple, np.column_stack([table[:, :-1], table[:, -1] < 0]).tolist()))
    loaded = load("phishing")
    rows = np.concatenate([loaded.train.image, loaded.test.image]).astype(int)
    labels = np.concatenate([loaded.train.label, loaded.test.label])
    values = np.where(rows == 255, 1, np.where(rows == 128, 0, -1))
    redirect = 18  # the one feature of values 0 and 1
    values[:, redirect] = rows[:, redirect] == 255
    assert sorted(map(tuple, np.column_stack([values, labels]).tolist())) == shipped


def test_levels_keep_the_order_and_are_exact_for_256_values():
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.permutation(256) ** 3.0, np.exp(rng.normal(size=256)), np.full(256, 7.0)])
    ranked = tables.levels(values)
    np.testing.assert_array_equal(ranked[:, 0], np.round(np.cbrt(values[:, 0])))
    np.testing.assert_array_equal(np.argsort(ranked[:, 1]), np.argsort(values[:, 1]))
    assert not ranked[:, 2].any()
    many = tables.levels(np.arange(1000.0)[:, None])[:, 0].astype(int)
    assert (np.diff(many) >= 0).all() and np.bincount(many).min() >= 1 and np.bincount(many).max() <= 4


def test_equal_rows_share_a_split_whatever_their_labels():
    rows = np.repeat(np.arange(50, dtype=np.uint8), 4).reshape(-1, 1)
    parts = tables.split(rows, np.tile(np.array([0, 1, 1, 0], np.uint8), 50))
    assert {split: len(labels) for split, (_, labels) in parts.items()} == {"train": 160, "test": 40}
    assert not set(parts["train"][0].ravel().tolist()) & set(parts["test"][0].ravel().tolist())


def test_a_damaged_file_is_refused_in_one_line(tmp_path, monkeypatch):
    for content, message in ((b"x", "cannot be read"), (None, "cannot be read")):
        monkeypatch.setattr(tables, "FOLDER", tmp_path)
        if content is not None:
            (tmp_path / "spambase.dat.xz").write_bytes(content)
        else:
            (tmp_path / "spambase.dat.xz").unlink()
        with pytest.raises(DataError, match=message) as caught:
            load("spambase")
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(tables, "content", lambda name: b"0.0, 1\n")
    with pytest.raises(DataError, match="is truncated"):
        raw.from_package(sources.SPAMBASE)


def test_there_is_nothing_to_prepare_or_to_stream(capsys):
    assert main(["data", "prepare", "phishing"]) == 2
    assert "phishing comes with poisonjax: there is nothing to prepare" in capsys.readouterr().err
    with pytest.raises(DataError, match="no record files to stream from"):
        stream.rows("spambase", "train")


def test_rows_of_ones_own_are_a_data_set():
    rows = np.random.default_rng(0).random((20, 5))
    made = from_arrays("mine", (rows, np.arange(20) % 2), (rows, np.arange(20) % 2))
    np.testing.assert_array_equal(made.train.image, np.round(rows * 255).astype(np.uint8))
    with pytest.raises(DataError, match=r"rows of features \[n d\], got \[20, 5, 1\]"):
        from_arrays("mine", (rows[..., None], np.arange(20) % 2), (rows, np.arange(20) % 2))
