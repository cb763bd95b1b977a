"""Data sets: tfds records as `Examples`, prepared offline if need be and read without TensorFlow."""

from poisonjax.data.arrays import from_arrays
from poisonjax.data.dataset import Dataset, load
from poisonjax.data.sources import DataError

__all__ = ["DataError", "Dataset", "from_arrays", "load"]
