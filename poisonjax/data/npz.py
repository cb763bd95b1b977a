"""Images as arrays in a NumPy file."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from poisonjax.data import divide
from poisonjax.data.arrays import from_arrays
from poisonjax.data.assemble import facts
from poisonjax.data.dataset import Dataset
from poisonjax.data.decoded import check_memory
from poisonjax.data.labels import numbered
from poisonjax.data.origin import Origin, Reading
from poisonjax.data.sources import DataError, one_line

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")  # as Keras calls them


class Npz(Origin):
    """x_train, y_train and, unless they are to be divided, x_test, y_test: [n h w c] or [n h w], and labels [n].

    Images are uint8, or floating in [0, 1], and are not resized. Rows are named by their number in x_train.
    """

    kind = "npz"

    def load(self, place: str, data_dir: str | None, reading: Reading) -> Dataset:
        """The data set of the file. No pickled object is loaded."""
        source = f"npz:{place}"
        if reading.image_size is not None or reading.channels is not None:
            raise DataError(f"{source}: arrays are used as they are; leave out image_size and channels")
        images, labels = _arrays(source, Path(place).expanduser())
        labels, classes = numbered(source, labels)
        names = [[str(row) for row in range(len(label))] for label in labels]
        if len(images) == 2:
            split, rows = divide.GIVEN, [divide.ordered(part, reading) for part in names]
        else:
            split, rows = divide.rule(reading), divide.divided(source, names[0], labels[0], classes, reading)
            images, labels = images * 2, labels * 2
        train, test = ((image[row], label[row]) for image, label, row in zip(images, labels, rows, strict=True))
        divide.checked(source, train[1], test[1], classes)
        made, names = from_arrays(source, train, test, classes), tuple(map(str, rows[0].tolist()))
        return replace(made, names=names, facts=facts(train[0].shape[1:], False, split, 0))


def _arrays(source: str, path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The images of the splits that there are, one or two, and their labels."""
    if not path.is_file():
        raise DataError(f"{source}: there is no file {str(path)!r}")
    try:
        with zipfile.ZipFile(path) as file:
            check_memory(f"{source}: its arrays", sum(member.file_size for member in file.infolist()))
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in _ARRAYS if name in file}
    except DataError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib each raise their own kinds on damage
        raise DataError(f"{source}: {str(path)!r} cannot be read ({one_line(error)})") from error
    if list(found) not in (list(_ARRAYS), list(_ARRAYS[:2])):
        raise DataError(f"{source}: must have {', '.join(_ARRAYS)}, or the first two, got {', '.join(found) or 'none'}")
    images = [_image(source, name, found[name], len(found[f"y{name[1:]}"])) for name in found if name.startswith("x")]
    return images, [found[name] for name in found if name.startswith("y")]


def _image(source: str, name: str, image: np.ndarray, labels: int) -> np.ndarray:
    """Images [n h w c]."""
    image = image[..., None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[-1] not in (1, 3) or 0 in image.shape:
        raise DataError(f"{source}: {name} must be [n h w], or [n h w c] with 1 or 3 channels, got {list(image.shape)}")
    if len(image) != labels:
        raise DataError(f"{source}: {name} has {len(image):,} rows, but there are {labels:,} labels")
    return image
