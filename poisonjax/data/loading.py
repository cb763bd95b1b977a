"""Data sets by their name, or by the place that they are read from."""

from poisonjax.data import any_tfds, dataset, ember, folder, npz, origin, parquet  # noqa: F401 (origins that `find` knows)
from poisonjax.data.dataset import Dataset
from poisonjax.data.origin import Reading
from poisonjax.data.sources import SOURCES, DataError


def load(source: str, data_dir: str | None = None, reading: Reading | None = None) -> Dataset:
    """Load a known data set, or data of one's own: `folder:`, `npz:`, `parquet:` or `ember:PATH`, or `tfds:NAME`.

    data_dir: the folder of the tfds data sets and of decoded copies of others; None for tfds's own default. reading:
    how images of one's own are read; None for the usual way. A known data set that is missing is prepared first,
    mnist_5k without a network, the others by tfds's download manager. DataError, one line with a remedy, if that fails,
    if there is nothing at the place, or if the content of a known one does not have the official digest.
    """
    if source not in SOURCES:
        found, place = origin.find(source)
        return found.load(place, data_dir, reading or Reading())
    if reading is not None:
        raise DataError(f"{source}: is read in one way only; leave out data.reading, {reading}")
    return dataset.load_known(source, data_dir)
