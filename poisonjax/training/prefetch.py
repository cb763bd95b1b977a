"""Training data on the host, read batch by batch ahead of the step that needs it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from poisonjax.types import Examples

T, R = TypeVar("T"), TypeVar("R")
DEPTH = 4  # batches read at a time, by as many threads: enough to hide a slow one, few enough to fit in memory


class HostData(NamedTuple):
    """Training rows on the host.

    index: [n], as in Examples. read: positions [b] in it -> Examples [b] of NumPy arrays.
    """

    index: np.ndarray
    read: Callable[[np.ndarray], Examples]


def prefetch(make: Callable[[T], R], items: Iterable[T], depth: int = DEPTH) -> Iterator[R]:
    """Yield make(item) for each item, in order, while threads compute the next `depth`."""
    items = iter(items)
    with ThreadPoolExecutor(depth) as pool:
        waiting = deque(pool.submit(make, item) for item in islice(items, depth))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(make, item) for item in islice(items, 1))
            yield result
