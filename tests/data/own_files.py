"""Files of one's own data: folders of images, NumPy and Parquet files, sound and broken ones."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(image: np.ndarray | Image.Image, form: str = "PNG", **options) -> bytes:
    """An image, or an array [h w] or [h w 3], in a file format."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    """A PNG with any header, whatever its data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def write(path: Path, content: bytes = b"") -> Path:
    """A file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def gray(value: int = 0, size: int = 28) -> np.ndarray:
    """A gray image [size size] of one value."""
    return np.full((size, size), value, np.uint8)


def folder(root: Path, classes=("cat", "dog"), rows: int = 4, size: int = 28) -> Path:
    """A folder of gray PNG images, `rows` in each class, all of them different."""
    for label, name in enumerate(classes):
        for row in range(rows):
            write(root / name / f"{row}.png", encoded(gray(label * rows + row, size)))
    return root


def npz(path: Path, rows: int = 12, **changed) -> Path:
    """x_train, y_train, x_test and y_test of three classes; arrays that are changed to None are left out."""
    label = np.arange(rows) % 3
    image = np.arange(rows * 64, dtype=np.uint8).reshape(rows, 8, 8)
    arrays = {"x_train": image, "y_train": label, "x_test": image[:6], "y_test": label[:6]} | changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def parquet(path: Path, images, labels, metadata: dict | None = None, column: str = "image", **more) -> Path:
    """A Parquet file as Hugging Face writes it. images: encoded, None for one without bytes."""
    import pyarrow
    from pyarrow.parquet import write_table

    path.parent.mkdir(parents=True, exist_ok=True)
    structs = [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
    table = pyarrow.table({column: structs, "label": pyarrow.array(labels), **more})
    write_table(table.replace_schema_metadata(metadata) if metadata else table, path, row_group_size=5)
    return path


def ember(root: Path, rows: int = 12, features: int = 5, **changed) -> Path:
    """The four files of the package ember; every third row is unlabelled. changed: arrays, or None to leave one out."""
    rng, label = np.random.default_rng(0), np.arange(rows) % 3 - 1
    arrays = {"X_train": rng.normal(size=(rows, features)), "y_train": label}
    arrays |= {"X_test": rng.normal(size=(rows // 2, features)), "y_test": label[: rows // 2]}
    for name, array in (arrays | changed).items():
        if array is not None:
            write(root / f"{name}.dat", np.asarray(array, "<f4").tobytes())
    return root
