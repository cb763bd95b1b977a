"""Models and data sets of MAITE's protocols for image classification.

The protocols (https://mit-ll-ai-technology.github.io/maite) are structural: what is made here meets them, and what is
taken has to, without an import of the package. They say nothing of the range of images, which is [0, 1] here.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from poisonjax.adapters.callback import called_back, in_few_sizes
from poisonjax.adapters.frameworks import of_torch
from poisonjax.data import Dataset, from_arrays
from poisonjax.evaluation.robustness import checked_examples
from poisonjax.runtime import compilation
from poisonjax.types import Examples, LogitsFn


def from_maite(model) -> LogitsFn:
    """A JAX function of a MAITE model, which is called with a list of images [c h w] in [0, 1], float32.

    They are tensors on the CPU if torch is imported, and NumPy arrays otherwise. Logits stay as they are, probabilities
    become their logarithms. Gradients are torch's, for a model that gives tensors computed from those images; any other
    takes only attacks that need none. ValueError for another object.
    """
    if isinstance(model, _Model):
        return model.logits_fn
    if not is_model(model):
        raise ValueError(f"model must be a MAITE model, called and with metadata, got {type(model).__name__}")
    torch = sys.modules.get("torch")
    if torch is not None:
        return of_torch(lambda x: _logits(torch, model(list(x))), "cpu")

    def backward(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        raise ValueError("its logits are not tensors computed from the images")

    return called_back(lambda x: _logits(np, model(list(x))), backward, channels_first=True)


def to_maite(logits_fn: LogitsFn, name: str, label_names: Sequence[str] = ()) -> "_Model":
    """A JAX network as a MAITE model: images [c h w], uint8 or in [0, 1] -> logits [k], float32.

    name, label_names: its metadata. Batches are padded to a power of two, so that few sizes are compiled. Called, it
    raises ValueError for images outside [0, 1].
    """
    return _Model(logits_fn, _metadata(name, label_names), compilation.jit(logits_fn))


def from_maite_dataset(train, test) -> Dataset:
    """A data set from two MAITE data sets, read into memory.

    Images [c h w] are uint8 or floating in [0, 1], rounded to 8 bits; the label is the largest target [k]. The name,
    and those of classes and training rows, come from the metadata. ValueError, one line, as `data.from_arrays`, and for
    other items.
    """
    splits = [_split(each) for each in (train, test)]
    made = from_arrays(str(train.metadata["id"]), *((image, label) for image, label, _ in splits))
    labels = train.metadata.get("index2label")
    names = tuple(str(labels.get(label, label)) for label in range(made.classes)) if labels else ()
    return dataclasses.replace(made, label_names=names, names=splits[0][2])


def to_maite_dataset(dataset: Dataset, examples: Examples) -> "_Rows":
    """Rows of a data set as a MAITE data set.

    examples: `dataset.train` or `dataset.test`, as it is or poisoned. An item is an image [c h w] in [0, 1], a one-hot
    label [k], both float32, and metadata whose id is the place of the row in its split. ValueError for rows of
    features.
    """
    if examples.image.ndim != 4:
        raise ValueError(f"{dataset.name}: has rows of features; MAITE's image classification takes images")
    rows = Examples(*map(np.asarray, examples))  # a loop ends at an IndexError, which JAX does not raise
    return _Rows(rows, dataset.classes, _metadata(dataset.name, dataset.label_names))


def is_model(thing: Any) -> bool:
    """True for an object, and no class, that meets MAITE's protocol of a model."""
    return _has_metadata(thing) and callable(thing)


@dataclasses.dataclass(frozen=True, eq=False)
class _Model:
    """A MAITE model. compiled: its logits_fn."""

    logits_fn: LogitsFn
    metadata: dict
    compiled: Callable

    def __call__(self, batch: Sequence, /) -> list[np.ndarray]:
        images = np.stack([np.asarray(image) for image in batch]).transpose(0, 2, 3, 1)
        x = checked_examples(images, np.zeros(len(images), int)).image
        return list(in_few_sizes(self.compiled, x))


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """A MAITE data set of rows with so many classes."""

    examples: Examples
    classes: int
    metadata: dict

    def __len__(self) -> int:
        return len(self.examples.label)

    def __getitem__(self, place: int, /) -> tuple[np.ndarray, np.ndarray, dict]:
        image, label, index = (field[place] for field in self.examples)
        target = (np.arange(self.classes) == label).astype(np.float32)
        return image.transpose(2, 0, 1).astype(np.float32) / 255, target, {"id": int(index)}


def _metadata(name: str, label_names: Sequence[str]) -> dict:
    return {"id": name} | ({"index2label": dict(enumerate(label_names))} if label_names else {})


def _has_metadata(thing: Any) -> bool:
    metadata = None if isinstance(thing, type) else getattr(thing, "metadata", None)
    return isinstance(metadata, Mapping) and "id" in metadata


def _split(dataset) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images [n h w c], labels [n] and ids [n] of a MAITE data set. ValueError, one line, for anything else."""
    if not (_has_metadata(dataset) and hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise ValueError(f"a MAITE data set must have an index and metadata, got {type(dataset).__name__}")
    rows = [dataset[place] for place in range(len(dataset))]
    shapes = sorted({(tuple(np.shape(image)), tuple(np.shape(target))) for image, target, _ in rows})
    if [(len(image), len(target)) for image, target in shapes] != [(3, 1)]:
        found = " or ".join(f"{list(image)}, {list(target)}" for image, target in shapes[:2]) or "none"
        raise ValueError(
            f"{dataset.metadata['id']}: must have images [c h w] and targets [k] of one shape, got {found}"
        )
    image, target = (np.stack([np.asarray(row[part]) for row in rows]) for part in (0, 1))
    return image.transpose(0, 2, 3, 1), target.argmax(-1), tuple(str(row[2]["id"]) for row in rows)


def _logits(xp: ModuleType, rows: Sequence):
    """Logits [b k] of the rows [k] that a MAITE model gives, logits or probabilities; xp: torch or numpy."""
    array = np.asarray if xp is np else functools.partial(xp.as_tensor, dtype=xp.float32, device="cpu")
    found = xp.stack([array(row) for row in rows])
    probable = bool((found >= 0).all()) and bool((abs(found.sum(-1) - 1) < 1e-3).all())
    return xp.log(found.clip(1e-12)) if probable else found
