"""Data: tfds records -> `Examples`, prepared without a network and read without TensorFlow."""

from poisonjax.data.dataset import Dataset, load
from poisonjax.data.sources import DataError

__all__ = ["DataError", "Dataset", "load"]
