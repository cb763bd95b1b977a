"""Data sets as `Examples`: those of tfds, prepared offline if need be, and one's own; all without TensorFlow."""

from poisonjax.data.arrays import from_arrays
from poisonjax.data.dataset import Dataset
from poisonjax.data.loading import load
from poisonjax.data.origin import Origin, Reading
from poisonjax.data.sources import DataError

__all__ = ["DataError", "Dataset", "Origin", "Reading", "from_arrays", "load"]
