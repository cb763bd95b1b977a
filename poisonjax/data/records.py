"""Examples as tfds stores them, a PNG and a label, written and read without TensorFlow."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image


def encode(image: np.ndarray) -> bytes:
    """Encode an image [h w c] uint8, c 1 or 3, as PNG."""
    png = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(png, "PNG")
    return png.getvalue()


def decode(png: bytes) -> np.ndarray:
    """Decode a PNG to an image [h w c] uint8."""
    image = np.asarray(Image.open(io.BytesIO(png)))
    return image.reshape(*image.shape[:2], -1)


def keyed(images: np.ndarray, labels: np.ndarray, id_prefix: str | None = None) -> Iterator[tuple[int, dict]]:
    """Yield (key, record) of images [n h w c] uint8 and labels [n], as the official tfds builders do.

    tfds orders a split by a hash of the key, so the key is the official row. id_prefix: adds the `id` that the official
    CIFAR-10 has.
    """
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        record = {"image": encode(image), "label": int(label)}
        yield row, record if id_prefix is None else record | {"id": f"{id_prefix}{row:05d}"}
