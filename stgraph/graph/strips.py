"""All cells within a radius, found strip by strip.

The slice is cut into strips as high as the radius, and the cells of a strip are sorted
along it: what is near a cell stands in one window of each of three strips. Nothing is as
large as the area of the slice, so that one far cell does no harm.
"""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stgraph._chunks import in_chunks
from stgraph._compiled import compiled

_MOST_STRIPS = 2**28
"""So few that a strip is told without rounding errors that matter."""


def within_radius(
    pos: NDArray[np.float64], radius: float, dtype: DTypeLike = np.int64
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.integer]]:
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
    order
        (N,) the cells along the strips; below, cells are numbered by their place in it.
    start
        (N + 1,) int64, where the neighbours of each cell begin.
    neighbors
        (E,) the cells.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.strips import within_radius
    >>> within_radius(np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), 1.0)
    (array([2, 1, 0]), array([0, 2, 4, 5]), array([0, 1, 0, 1, 2]))
    """
    n = len(pos)
    start = np.zeros(n + 1, dtype=np.int64)
    if n == 0:
        return start[:0], start, np.zeros(0, dtype=dtype)
    x, y = np.ascontiguousarray(pos.T)
    low = y.min()
    height = max(radius * (1 + 1e-6), (y.max() - low) / _MOST_STRIPS) or 1.0
    strip = ((y - low) / height).astype(np.int32)
    order = np.argsort(x)
    # Numpy sorts 16 bits ten times as fast as more; few slices have that many strips.
    order = order[np.argsort(strip[order].astype(np.uint16 if strip.max() < 2**16 else np.int32), kind="stable")]
    strip, x, y = strip[order], x[order], y[order]
    begin = np.flatnonzero(np.diff(strip, prepend=-1))
    # Strips without cells are not there: `number` tells which of those that are there touch.
    number, begin = strip[begin], np.append(begin, n)
    limit = radius * radius * (1 + 1e-12) + 5e-324
    in_chunks(_count, n, x, y, number, begin, radius, limit, start[1:])
    np.cumsum(start, out=start)
    neighbors = np.empty(start[-1], dtype=dtype)
    in_chunks(_fill, n, x, y, number, begin, radius, limit, start, neighbors)
    return order, start, neighbors


@compiled
def _window(xs, number, begin, s, x, side, radius, low, high):  # type: ignore[no-untyped-def]
    """Where the cells beside ``x`` stand in the strip at ``side`` of strip ``s``; goes on from the last cell's."""
    t = s + side
    if t < 0 or t >= len(number) or number[t] != number[s] + side:
        return 0, 0
    if high < 0:
        low = begin[t] + np.searchsorted(xs[begin[t] : begin[t + 1]], x - radius)
        # Rounding may have gone one too far.
        while low > begin[t] and x - xs[low - 1] <= radius:
            low -= 1
        high = low
    while low < begin[t + 1] and x - xs[low] > radius:
        low += 1
    high = max(low, high)
    while high < begin[t + 1] and xs[high] - x <= radius:
        high += 1
    return low, high


@compiled
def _count(first, last, xs, ys, number, begin, radius, limit, degree):  # type: ignore[no-untyped-def]
    s = np.searchsorted(begin, first, side="right") - 1
    low, high = np.zeros(3, dtype=np.int64), np.full(3, -1, dtype=np.int64)
    for i in range(first, last):
        if i == begin[s + 1]:
            s += 1
            high[:] = -1
        x, y, found = xs[i], ys[i], 0
        for side in range(3):
            low[side], high[side] = _window(xs, number, begin, s, x, side - 1, radius, low[side], high[side])
            beside_x, beside_y = xs[low[side] : high[side]], ys[low[side] : high[side]]
            for j in range(len(beside_x)):
                dx, dy = x - beside_x[j], y - beside_y[j]
                found += dx * dx + dy * dy <= limit
        degree[i] = found


@compiled
def _fill(first, last, xs, ys, number, begin, radius, limit, start, neighbors):  # type: ignore[no-untyped-def]
    s = np.searchsorted(begin, first, side="right") - 1
    low, high = np.zeros(3, dtype=np.int64), np.full(3, -1, dtype=np.int64)
    found = np.empty(64, dtype=np.int64)
    for i in range(first, last):
        if i == begin[s + 1]:
            s += 1
            high[:] = -1
        x, y, place = xs[i], ys[i], start[i]
        for side in range(3):
            low[side], high[side] = _window(xs, number, begin, s, x, side - 1, radius, low[side], high[side])
            beside_x, beside_y = xs[low[side] : high[side]], ys[low[side] : high[side]]
            if len(beside_x) > len(found):
                found = np.empty(2 * len(beside_x), dtype=np.int64)
            # Every cell is written down, and the next one over it unless it is near: no branch to guess wrong.
            size = 0
            for j in range(len(beside_x)):
                dx, dy = x - beside_x[j], y - beside_y[j]
                found[size] = low[side] + j
                size += dx * dx + dy * dy <= limit
            for e in range(size):
                neighbors[place + e] = found[e]
            place += size
