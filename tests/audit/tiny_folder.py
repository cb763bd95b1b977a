"""A folder of real digits as PNG files, some of them poisoned."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from poisonjax.data import load
from poisonjax.poisons import poisoned
from poisonjax.types import take


def write(folder, data_dir, poison, rows):
    """Write the first rows of mnist_5k to folder/train and folder/test; the folder, and the names of poisoned files."""
    dataset = load("mnist_5k", data_dir)
    train = take(dataset.train, slice(rows))
    chosen = np.asarray(poison.select(jnp.asarray(train.label), jax.random.key(7)))
    changed = jax.tree.map(np.asarray, poisoned(poison.apply, train, train.index[chosen]))
    test = take(dataset.test, slice(100))
    names = [_save(folder, "train", *row) for row in zip(changed.image, changed.label, range(rows), strict=True)]
    for row in zip(test.image, test.label, range(100), strict=True):
        _save(folder, "test", *row)
    return folder, {name for name, hit in zip(names, chosen, strict=True) if hit}


def _save(folder, split, image, label, number):
    name = f"{split}/digit {label}/{number:05d}.png"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0]).save(folder / name)
    return name
