"""Streamed and loaded rows are the same; an intact cache is used, and a damaged one rebuilt."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from poisonjax.data import DataError, dataset, load, prepare, records, sources
from poisonjax.data.stream import stream


@pytest.fixture
def copied(data_dir, tmp_path) -> str:
    """A data_dir of its own with a cache, to be damaged."""
    load("mnist_5k", data_dir)
    return shutil.copytree(data_dir, tmp_path / "copy", copy_function=shutil.copy2)


@pytest.fixture
def decoded(monkeypatch) -> list:
    """Grows by one with each image that is decoded."""
    calls, decode = [], records.decode
    monkeypatch.setattr(records, "decode", lambda png: calls.append(1) or decode(png))
    return calls


def cache_file(data_dir) -> Path:
    return Path(data_dir) / "mnist_5k" / "1.0.0.decoded"


def test_loaded_arrays_have_the_documented_types_and_shapes(data_dir):
    loaded = load("mnist_5k", data_dir)
    assert (loaded.name, loaded.version, loaded.classes) == ("mnist_5k", "1.0.0", 10)
    known = sources.find("mnist_5k")
    assert (known.shape, known.rows) == (
        loaded.train.image.shape[1:],
        (len(loaded.train.label), len(loaded.test.label)),
    )
    for examples, rows in ((loaded.train, 4000), (loaded.test, 1000)):
        assert (examples.image.shape, examples.image.dtype) == ((rows, 28, 28, 1), np.uint8)
        assert (examples.label.dtype, examples.index.dtype) == (np.int32, np.int32)
        assert set(examples.label.tolist()) == set(range(10))
        assert not examples.image.flags.writeable
        np.testing.assert_array_equal(examples.index, np.arange(rows))


def test_sha256_covers_the_arrays_in_the_documented_order(data_dir):
    loaded = load("mnist_5k", data_dir)
    content = b"".join(a.tobytes() for split in (loaded.train, loaded.test) for a in (split.image, split.label))
    assert hashlib.sha256(content).hexdigest() == loaded.sha256


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("batch", [300, 1000, 5000])
def test_streamed_batches_are_the_rows_in_memory(split, batch, data_dir):
    whole = getattr(load("mnist_5k", data_dir), split)
    parts = list(stream("mnist_5k", split, data_dir, batch))
    rows = len(whole.label)
    assert [len(part.label) for part in parts] == [min(batch, rows - at) for at in range(0, rows, batch)]
    for field, values in zip(whole, zip(*parts, strict=True), strict=True):
        joined = np.concatenate(values)
        assert joined.dtype == field.dtype
        np.testing.assert_array_equal(joined, field)


@pytest.mark.parametrize(("split", "batch"), [("train[:10]", 1), ("validation", 1), ("train", 0)])
def test_bad_arguments_of_a_stream_are_refused_before_iteration(split, batch, data_dir):
    with pytest.raises(DataError, match=r"allowed|at least 1"):
        stream("mnist_5k", split, data_dir, batch)


def test_second_load_decodes_nothing(copied, decoded):
    cache_file(copied).unlink()
    first = load("mnist_5k", copied)
    assert len(decoded) == 5000
    second = load("mnist_5k", copied)
    assert len(decoded) == 5000
    for one, other in zip((*first.train, *first.test), (*second.train, *second.test), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def _flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a bit of a pixel": lambda path: _flip(path, 1_000_000),
    "a bit of the last label": lambda path: _flip(path, -4),
    "a bit of the fingerprint": lambda path: _flip(path, 0),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cache_is_rebuilt(damage, copied, decoded, data_dir):
    DAMAGES[damage](cache_file(copied))
    loaded = load("mnist_5k", copied)
    assert len(decoded) == 5000
    np.testing.assert_array_equal(loaded.train.image, load("mnist_5k", data_dir).train.image)
    if damage != "a folder":
        assert cache_file(copied).read_bytes()[64:] == cache_file(data_dir).read_bytes()[64:]
        load("mnist_5k", copied)
        assert len(decoded) == 5000


def test_leftovers_of_a_killed_cache_write_are_removed_by_the_next(copied):
    left = cache_file(copied).with_name(".1.0.0.decoded.4242.tmp")
    left.write_bytes(b"half")
    cache_file(copied).unlink()
    load("mnist_5k", copied)
    assert sorted(path.name for path in left.parent.iterdir()) == ["1.0.0", "1.0.0.decoded"]


def test_changed_record_files_invalidate_the_cache(copied, decoded):
    load("mnist_5k", copied)
    assert not decoded
    os.utime(prepare.record_files(prepare.builder("mnist_5k", copied))[0])
    load("mnist_5k", copied)
    assert len(decoded) == 5000


def test_unwritable_cache_is_a_warning_only(copied, decoded, monkeypatch, caplog):
    cache_file(copied).unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    loaded = load("mnist_5k", copied)
    assert loaded.train.image.shape == (4000, 28, 28, 1)
    assert "No space left on device" in caplog.text
    assert [path.name for path in cache_file(copied).parent.iterdir()] == ["1.0.0"]


def test_records_with_a_different_digest_are_refused(copied, monkeypatch):
    cache_file(copied).unlink()
    decode = dataset._decode
    monkeypatch.setattr(dataset, "_decode", lambda builder: [array[::-1] for array in decode(builder)])
    with pytest.raises(DataError, match="is not the official mnist_5k; delete it"):
        load("mnist_5k", copied)
    assert not cache_file(copied).exists()


def test_cached_mnist_is_the_decoded_mnist(mnist_dir, decoded):
    first = load("mnist", str(mnist_dir))
    decoded.clear()
    second = load("mnist", str(mnist_dir))
    assert not decoded
    assert first.sha256 == second.sha256
    np.testing.assert_array_equal(first.train.image, second.train.image)
    (part,) = (part for part in stream("mnist", "test", str(mnist_dir), 10_000))
    np.testing.assert_array_equal(part.image, second.test.image)
