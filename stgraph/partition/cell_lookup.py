"""Where a cell stands among the cells of a part.

A hash table (open addressing, Fibonacci hashing), so that the cost depends on the part
and not on the slice, as that of an array over all cells would: a slice of a million cells has a thousand parts.
"""

import numpy as np
from numba import njit

from stgraph._compiled import compiled

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.int64(-1)


@compiled
def make_table(capacity):  # type: ignore[no-untyped-def]
    """Empty table for ``capacity`` cells: cells and their places, (a power of two,) each."""
    size = 16
    while size < 2 * capacity:
        size *= 2
    return np.full(size, _EMPTY, dtype=np.int64), np.empty(size, dtype=np.int32)


@njit(nogil=True, inline="always")
def find_slot(keys, cell):  # type: ignore[no-untyped-def]
    """Slot that holds ``cell``, or else the one it belongs in, which is empty."""
    mask = np.uint64(len(keys) - 1)
    slot = ((np.uint64(cell) * _GOLDEN) >> np.uint64(32)) & mask
    while keys[slot] != _EMPTY and keys[slot] != cell:
        slot = (slot + np.uint64(1)) & mask
    return slot
