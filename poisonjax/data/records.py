"""One example as tfds stores it: a PNG and a label, written and read without TensorFlow."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image


def encode(image: np.ndarray) -> bytes:
    """image [h w c] uint8, c 1 or 3 -> PNG."""
    png = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(png, "PNG")
    return png.getvalue()


def decode(png: bytes) -> np.ndarray:
    """PNG -> image [h w c] uint8."""
    image = np.asarray(Image.open(io.BytesIO(png)))
    return image.reshape(*image.shape[:2], -1)


def keyed(images: np.ndarray, labels: np.ndarray, id_prefix: str | None = None) -> Iterator[tuple[int, dict]]:
    """images [n h w c] uint8, labels [n] -> (key, record) as the genuine builders yield them.

    tfds orders a split by a hash of the key, so the key is the official row, as it is there. `id_prefix`
    adds the `id` that the genuine CIFAR-10 has.
    """
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        record = {"image": encode(image), "label": int(label)}
        yield row, record if id_prefix is None else record | {"id": f"{id_prefix}{row:05d}"}
