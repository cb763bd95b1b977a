"""Official files are accepted however packed and refused, in one line, if damaged."""

import gzip

import numpy as np
import official_files
import pytest
from official_files import TEST, TRAIN, gzipped, pairs, put, tarred

from poisonjax.data import prepare, sources
from poisonjax.data.__main__ import main
from poisonjax.data.stream import stream


def some(content):
    """One file plain, the others packed."""
    first, *_ = content
    return gzipped({k: v for k, v in content.items() if k != first}) | {first: content[first]}


def cases(table):
    """(data set, case) of a table whose values begin with a data set or "both"."""
    names = {"both": ["mnist", "cifar10"], "mnist": ["mnist"], "cifar10": ["cifar10"]}
    return [pytest.param(name, case, id=f"{name}, {case}") for case, row in table.items() for name in names[row[0]]]


PACKINGS = {
    "plain": ("both", "", lambda content: content),
    "plain in the official subfolder": ("both", "official", lambda content: content),
    "gzipped": ("both", "", gzipped),
    "gzipped with another level": ("mnist", "official", lambda content: gzipped(content, 1)),
    "some gzipped": ("mnist", "", some),
    "archive": ("cifar10", "", tarred),
    "archive compressed anew": ("cifar10", "", lambda content: tarred(content, mode="w:xz")),
    "archive in another order": ("cifar10", "", lambda content: tarred(dict(reversed(content.items())), "./any")),
}


@pytest.mark.parametrize(("small", "packing"), cases(PACKINGS), indirect=["small"])
def test_every_packing_gives_every_row_once_with_its_label(packing, small, tmp_path):
    name, source, content = small
    _, place, pack = PACKINGS[packing]
    put(tmp_path / "raw" / (place and source.folder), pack(content))
    prepare.prepared(name, str(tmp_path / "out"), str(tmp_path / "raw"))
    for split, rows in (("train", TRAIN), ("test", TEST)):
        images, labels = source.parse(content)[split]
        assert len(images) == rows
        (got,) = stream(name, split, str(tmp_path / "out"))
        assert pairs(got.image, got.label) == pairs(images, labels)


def flipped(data):
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def without(content, index=1):
    return {name: data for at, (name, data) in enumerate(content.items()) if at != index}


def with_second(content, change):
    name = list(content)[1]
    return content | {name: change(content[name])}


# name of the case -> (data set, files that lie in DIR, what the one line must say)
DAMAGES = {
    "nothing there": ("both", lambda c: {}, "raw contains none of the official files; it must contain {files}"),
    "one file missing": ("both", without, "raw/{second} is missing; put it there"),
    "truncated": ("both", lambda c: with_second(c, lambda d: d[:-1]), "raw/{second} is truncated ("),
    "empty": ("both", lambda c: with_second(c, lambda d: b""), "raw/{second} is truncated (0 bytes of "),
    "one bit wrong": ("both", lambda c: with_second(c, flipped), "raw/{second} is not the official {second}"),
    "one byte more": ("both", lambda c: with_second(c, lambda d: d + b"0"), "raw/{second} is not the official"),
    "truncated gz": (
        "mnist",
        lambda c: with_second(gzipped(c), lambda d: d[:-9]),
        "raw/{second}.gz cannot be read (",
    ),
    "damaged gz": ("mnist", lambda c: with_second(gzipped(c), flipped), "raw/{second}.gz "),
    "gz of a wrong file": (
        "mnist",
        lambda c: gzipped(with_second(c, flipped)),
        "raw/{second}.gz is not the official {second}",
    ),
    "not a tar": ("cifar10", lambda c: {"cifar-10-binary.tar.gz": b"<html>404</html>"}, "cannot be unpacked"),
    "gz, but not of a tar": (
        "cifar10",
        lambda c: {"cifar-10-binary.tar.gz": gzip.compress(b"nothing" * 999)},
        "raw/cifar-10-binary.tar.gz cannot be unpacked",
    ),
    "truncated tar": (
        "cifar10",
        lambda c: {name: data[: len(data) // 2] for name, data in tarred(c).items()},
        "raw/cifar-10-binary.tar.gz cannot be unpacked",
    ),
    "file missing in tar": ("cifar10", lambda c: tarred(without(c)), "tar.gz contains no {second}"),
    "wrong file in tar": (
        "cifar10",
        lambda c: tarred(with_second(c, flipped)),
        "tar.gz: cifar-10-batches-bin/{second} is not the official {second}",
    ),
    "truncated file in tar": (
        "cifar10",
        lambda c: tarred(with_second(c, lambda d: d[:-1])),
        "tar.gz: cifar-10-batches-bin/{second} is truncated",
    ),
}


@pytest.mark.parametrize(("small", "damage"), cases(DAMAGES), indirect=["small"])
def test_damaged_file_is_named_in_one_line_and_leaves_nothing(damage, small, tmp_path, capsys):
    name, _, content = small
    _, make, message = DAMAGES[damage]
    put(tmp_path / "raw", make(content))
    arguments = ["prepare", name, "--from_raw", str(tmp_path / "raw"), "--data_dir", str(tmp_path / "out")]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert message.format(second=list(content)[1], files=", ".join(content)) in err
    assert not (tmp_path / "out").exists()


def test_mnist_pixels_and_labels_follow_their_headers():
    content = official_files.mnist_content(np.random.default_rng(0))
    images, labels = sources.MNIST.parse(content)["test"]
    assert images.shape == (TEST, 28, 28, 1)
    assert images[1].tobytes() == content["t10k-images-idx3-ubyte"][16 + 784 : 16 + 2 * 784]
    assert labels.tolist() == list(range(TEST))


def test_cifar10_planes_become_channels():
    planes = np.repeat(np.arange(3, dtype=np.uint8), 1024)
    batch = bytes([7]) + planes.tobytes()
    content = {file.name: batch for file in sources.CIFAR10.files}
    images, labels = sources.CIFAR10.parse(content)["train"]
    assert images.shape == (5, 32, 32, 3)
    assert labels.tolist() == [7] * 5
    np.testing.assert_array_equal(images, np.broadcast_to([0, 1, 2], images.shape))
