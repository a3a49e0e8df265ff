"""All cells within a radius, found strip by strip.

The slice is cut into strips as high as the radius, and the cells of a strip are sorted
along it: what is near a cell stands in one window of each of three strips. Nothing is as
large as the area of the slice, so that one far cell does no harm.
"""

import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

from stgraph.graph.chunks import in_chunks

_MOST_STRIPS = 2**28
"""So few that a strip is told without rounding errors that matter."""


def within_radius(
    pos: NDArray[np.float64], radius: float, dtype: DTypeLike = np.int64
) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
    """Cells up to ``radius`` from each cell, itself among them.

    Parameters
    ----------
    pos
        (N, 2) finite positions.
    radius
        Largest distance, in the unit of ``pos``; pairs that are too far by a rounding
        error may be among the result.
    dtype
        Of ``neighbors``.

    Returns
    -------
    start
        (N + 1,) int64, where the neighbours of each cell begin.
    neighbors
        (E,) the cells.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.strips import within_radius
    >>> within_radius(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), 1.0)
    (array([0, 2, 4, 5]), array([0, 1, 0, 1, 2]))
    """
    n = len(pos)
    start = np.zeros(n + 1, dtype=np.int64)
    if n == 0:
        return start, np.zeros(0, dtype=dtype)
    low = pos.min(axis=0)
    height = max(radius * (1 + 1e-6), (pos[:, 1].max() - low[1]) / _MOST_STRIPS) or 1.0
    strip = ((pos[:, 1] - low[1]) / height).astype(np.int64)
    cells = np.lexsort((pos[:, 0], strip))
    strip, places = strip[cells], pos[cells]
    begin = np.flatnonzero(np.diff(strip, prepend=-1))
    # Strips without cells are not there: `number` tells which of those that are there touch.
    number, begin = strip[begin], np.append(begin, n)
    limit = radius * radius * (1 + 1e-12) + 5e-324
    in_chunks(_count, n, places, cells, number, begin, radius, limit, start[1:])
    np.cumsum(start, out=start)
    neighbors = np.empty(start[-1], dtype=dtype)
    in_chunks(_fill, n, places, cells, number, begin, radius, limit, start, neighbors)
    return start, neighbors


@njit(cache=True, nogil=True)
def _window(places, number, begin, s, i, side, radius, low, high):  # type: ignore[no-untyped-def]
    """Where the cells beside cell ``i`` stand in the strip at ``side`` of its own; goes on from the last cell's."""
    t = s + side
    if t < 0 or t >= len(number) or number[t] != number[s] + side:
        return 0, 0
    if high < 0:
        low = begin[t] + np.searchsorted(places[begin[t] : begin[t + 1], 0], places[i, 0] - radius)
        # Rounding may have gone one too far.
        while low > begin[t] and places[i, 0] - places[low - 1, 0] <= radius:
            low -= 1
        high = low
    while low < begin[t + 1] and places[i, 0] - places[low, 0] > radius:
        low += 1
    high = max(low, high)
    while high < begin[t + 1] and places[high, 0] - places[i, 0] <= radius:
        high += 1
    return low, high


@njit(cache=True, nogil=True)
def _count(first, last, places, cells, number, begin, radius, limit, degree):  # type: ignore[no-untyped-def]
    s = np.searchsorted(begin, first, side="right") - 1
    low, high = np.zeros(3, dtype=np.int64), np.full(3, -1, dtype=np.int64)
    for i in range(first, last):
        if i == begin[s + 1]:
            s += 1
            high[:] = -1
        found = 0
        for side in range(3):
            low[side], high[side] = _window(places, number, begin, s, i, side - 1, radius, low[side], high[side])
            for j in range(low[side], high[side]):
                dx, dy = places[i, 0] - places[j, 0], places[i, 1] - places[j, 1]
                found += dx * dx + dy * dy <= limit
        degree[cells[i]] = found


@njit(cache=True, nogil=True)
def _fill(first, last, places, cells, number, begin, radius, limit, start, neighbors):  # type: ignore[no-untyped-def]
    s = np.searchsorted(begin, first, side="right") - 1
    low, high = np.zeros(3, dtype=np.int64), np.full(3, -1, dtype=np.int64)
    for i in range(first, last):
        if i == begin[s + 1]:
            s += 1
            high[:] = -1
        place = start[cells[i]]
        for side in range(3):
            low[side], high[side] = _window(places, number, begin, s, i, side - 1, radius, low[side], high[side])
            for j in range(low[side], high[side]):
                dx, dy = places[i, 0] - places[j, 0], places[i, 1] - places[j, 1]
                if dx * dx + dy * dy <= limit:
                    neighbors[place] = cells[j]
                    place += 1
