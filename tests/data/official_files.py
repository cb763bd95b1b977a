"""Small official files of random images, their packings, and the real labels, for the tests of this folder."""

import gzip
import io
import lzma
import struct
import tarfile
from pathlib import Path

import numpy as np

TRAIN, TEST = 20, 7  # rows of the small sources


def mnist_content(rng: np.random.Generator) -> dict[str, bytes]:
    content = {}
    for prefix, rows in (("train", TRAIN), ("t10k", TEST)):
        pixels, labels = rng.bytes(rows * 28 * 28), bytes(row % 10 for row in range(rows))
        content[f"{prefix}-images-idx3-ubyte"] = struct.pack(">IIII", 2051, rows, 28, 28) + pixels
        content[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">II", 2049, rows) + labels
    return content


def cifar10_content(rng: np.random.Generator) -> dict[str, bytes]:
    names = {f"data_batch_{i}.bin": TRAIN // 5 for i in range(1, 6)} | {"test_batch.bin": TEST}
    return {name: b"".join(bytes([row % 10]) + rng.bytes(3072) for row in range(rows)) for name, rows in names.items()}


def put(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)


def gzipped(content, level=9):
    return {f"{name}.gz": gzip.compress(data, level) for name, data in content.items()}


def tarred(content, folder="cifar-10-batches-bin", mode="w:gz"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return {"cifar-10-binary.tar.gz": packed.getvalue()}


def pairs(images, labels):
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def cifar10_labels(shared: Path) -> dict[str, np.ndarray]:
    """The real labels by split, in the official order; the pieces begin with them, so no image is unpacked."""
    pieces = (shared / f"cifar10_part_0{i}.xz" for i in range(4))
    labels = b"".join(lzma.LZMADecompressor().decompress(piece.read_bytes(), 15000) for piece in pieces)
    return {"train": np.frombuffer(labels[:50000], np.uint8), "test": np.frombuffer(labels[50000:], np.uint8)}
