"""Labels of one's own, whole numbers or texts, as numbers from 0."""

from collections.abc import Sequence

import numpy as np

from poisonjax.data.sources import DataError


def numbered(
    source: str, parts: Sequence[np.ndarray], names: Sequence[str] = ()
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """The labels of the training split and of others, [n] each, as int64 from 0, and the names of the classes.

    names: of the classes, where labels are numbers; without them, the numbers. Texts are sorted. DataError for a label
    of another kind, a negative one, or one of no class of the training split.
    """
    parts = [part[:, 0] if part.ndim == 2 and part.shape[1] == 1 else part for part in map(np.asarray, parts)]
    for part in parts:
        if part.ndim != 1 or part.dtype.kind not in "iuUO" or not len(part):
            raise DataError(
                f"{source}: labels must be whole numbers or texts, one a row, got {part.dtype}{list(part.shape)}"
            )
    if all(part.dtype.kind in "iu" for part in parts):
        return _numbers(source, parts, names)
    texts = [_texts(source, part) for part in parts]
    classes = sorted(set(texts[0]))
    places = {name: place for place, name in enumerate(classes)}
    for text in texts[1:]:
        if unknown := set(text) - places.keys():
            raise DataError(f"{source}: class {min(unknown)!r} is in the test split, but not in the training split")
    return [np.array([places[name] for name in text], np.int64) for text in texts], tuple(classes)


def _numbers(source: str, parts: list[np.ndarray], names: Sequence[str]) -> tuple[list[np.ndarray], tuple[str, ...]]:
    least, most = min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)
    classes = len(names) or int(parts[0].max()) + 1
    if least < 0 or most >= classes or classes > len(parts[0]):
        raise DataError(
            f"{source}: labels must be numbered from 0, each class with an image to train on; got {least} to {most} "
            f"for {len(parts[0]):,} rows"
        )
    return [part.astype(np.int64) for part in parts], tuple(names) or tuple(map(str, range(classes)))


def _texts(source: str, part: np.ndarray) -> list[str]:
    texts = part.tolist()
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{source}: labels must be all whole numbers or all texts, none missing")
    return texts
