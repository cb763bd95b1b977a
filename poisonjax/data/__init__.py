"""Data sets: tfds records as `Examples`, prepared offline if need be and read without TensorFlow."""

from poisonjax.data.dataset import Dataset, load
from poisonjax.data.sources import DataError

__all__ = ["DataError", "Dataset", "load"]
