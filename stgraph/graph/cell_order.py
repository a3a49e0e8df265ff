"""An order of the cells of a slice that depends on what they are, not on how they come."""

import numpy as np
from numpy.typing import NDArray


def canonical_order(x: NDArray[np.floating], pos: NDArray[np.float64]) -> NDArray[np.intp]:
    """Sort cells by the magnitude of their first feature, those that tie by the next, and so on.

    Leiden visits nodes by number, so its result is the same for permuted cells only if they are
    numbered by what they are; and by magnitudes, since the sign of a principal axis is arbitrary. Only cells
    that tie are ever sorted again: on data of floats this is one sort, however many features there are. Cells
    whose features are all as large are sorted by their distance from the middle of the slice, which no rigid
    motion changes (but for rounding, which is cut off), and those that tie even so by position and sign.

    Parameters
    ----------
    x
        (N, C) features.
    pos
        (N, 2) positions.

    Returns
    -------
    ndarray
        (N,) the cells in order.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.cell_order import canonical_order
    >>> canonical_order(np.array([[1.0, 5.0], [0.0, 9.0], [1.0, 4.0]]), np.zeros((3, 2))).tolist()
    [1, 2, 0]
    """
    order = np.arange(len(x), dtype=np.intp)
    unsorted = np.arange(len(x), dtype=np.intp)  # places in `order` of the cells that tie so far
    group = np.zeros(len(x), dtype=np.intp)  # which of them tie with each other: increasing
    for column in range(2 * x.shape[1] + 3):
        cells = order[unsorted]
        key = _key(x, pos, column, cells)
        by_key = np.lexsort((key, group))
        order[unsorted] = cells[by_key]
        key, group = key[by_key], group[by_key]
        new = np.ones(len(key) + 1, dtype=bool)
        new[1:-1] = (key[1:] != key[:-1]) | (group[1:] != group[:-1])
        tied = ~(new[1:] & new[:-1])
        unsorted, group = unsorted[tied], np.cumsum(new[:-1])[tied]
        if not len(unsorted):
            break
    return order


def _key(
    x: NDArray[np.floating], pos: NDArray[np.float64], which: int, cells: NDArray[np.intp]
) -> NDArray[np.floating]:
    """Of the cells: the magnitudes of their features, distance from the middle, position or features, one at a time."""
    channels = x.shape[1]
    if which == channels:
        distance = np.linalg.norm(pos - pos.mean(axis=0), axis=1)
        return np.asarray((distance[cells] / (distance.max(initial=0.0) or 1.0)).round(9))
    if which < channels:
        return np.asarray(np.abs(x[cells, which]))
    which -= channels + 1
    return np.asarray(pos[cells, which] if which < 2 else x[cells, which - 2])
