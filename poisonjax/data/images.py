"""Encoded images as arrays: which are read, and by which rules. PNG, JPEG and WebP, by Pillow."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP")  # no other decoder is tried, whatever a file contains
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
GRAY = ("1", "L", "LA")  # modes of Pillow
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # tag of Exif: from 5 on, height and width are exchanged


class Look(NamedTuple):
    """The header of an image: height and width as it is meant to be seen, and if it is stored as gray."""

    height: int
    width: int
    gray: bool


def look(file: BinaryIO) -> Look:
    """The header of an image; nothing is decoded. Raises whatever Pillow does, and ValueError for what is not read."""
    with _opened(file) as image:
        turned = _may_be_turned(image) and image.getexif().get(_ORIENTATION, 1) >= 5
        height, width = image.size if turned else image.size[::-1]
        return Look(height, width, image.mode in GRAY)


def decode(file: BinaryIO, height: int, width: int, channels: int) -> np.ndarray:
    """An image as [h w c] uint8. Raises as `look` does.

    It is turned as the Exif of a JPEG or WebP says, laid on white where it is transparent, scaled so that it just
    covers height x width, by Pillow's bilinear filter, and cut to that around its centre; an image of this size keeps
    its pixels.
    """
    with _opened(file) as image:
        image = ImageOps.exif_transpose(image) if _may_be_turned(image) else image
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        image = image.convert("L" if channels == 1 else "RGB")
        fitted = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        return np.asarray(fitted).reshape(height, width, channels)


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("is no PNG, JPEG or WebP image") from None
    with image:
        pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
        if limit is not None and pixels > limit:
            raise ValueError(f"has {pixels:,} pixels, more than the {limit:,} that are decoded")
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # the first of a camera's MPO is the photo
            raise ValueError(f"has {image.n_frames} frames; one is allowed")
        if _deep(image) or image.mode not in GRAY + COLOUR:
            raise ValueError("has more than 8 bits a channel; save it with 8")
        yield image


def _may_be_turned(image: Image.Image) -> bool:
    """True if Exif is looked for: in a PNG it may follow the pixels, and all of them would be decoded to find it."""
    return image.format != "PNG"


def _deep(image: Image.Image) -> bool:
    """True for 16 bits a channel, which Pillow would cut to 8 if they are colours."""
    return any("16" in str(tile.args) for tile in image.tile)


@contextmanager
def strictly() -> Iterator[None]:
    """Decompression bombs are errors, and Pillow's other warnings silent; for all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
