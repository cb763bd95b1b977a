"""Training data that stay on the host: read batch by batch, ahead of the step that needs them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from poisonjax.types import Examples

T, R = TypeVar("T"), TypeVar("R")
DEPTH = 4  # batches read at a time, and by as many threads: enough to hide a slow one, few enough to fit in memory


class HostData(NamedTuple):
    """As many training rows as `index` has; read: positions [b] among them -> Examples [b], in numpy arrays."""

    index: np.ndarray
    read: Callable[[np.ndarray], Examples]


def prefetch(make: Callable[[T], R], items: Iterable[T], depth: int = DEPTH) -> Iterator[R]:
    """make(item) of each item, in order, the next `depth` of them under way in threads meanwhile."""
    items = iter(items)
    with ThreadPoolExecutor(depth) as pool:
        waiting = deque(pool.submit(make, item) for item in islice(items, depth))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, item) for item in islice(items, 1))
            yield made
