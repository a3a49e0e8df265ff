"""The k nearest cells and all that tie with the last of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stgraph._chunks import in_chunks
from stgraph._compiled import compiled
from stgraph.errors import InputError
from stgraph.graph.search import NeighborSearch

TIE = 1e-9
"""Distances closer than this, relatively, are equal: a rigid motion changes less."""

_TRIED = 1024
"""Cells tried before all are searched for."""


@dataclass(frozen=True)
class NearestTable:
    """Neighbours of some cells.

    Attributes
    ----------
    rows
        (M,) the cells.
    index
        (M, K) their neighbours, the nearest first, without the cells themselves.
    count
        (M,) how many of the K are neighbours; the rest is to be ignored.
    """

    rows: NDArray[np.int64]
    index: NDArray[np.integer]
    count: NDArray[np.int64]


def nearest_with_ties(
    pos: NDArray[np.float64], k: int, search: NeighborSearch
) -> tuple[list[NearestTable], NDArray[np.float64]]:
    """All cells no farther than the k-th nearest.

    Parameters
    ----------
    pos
        (N, 2) positions, best in spatial order.
    k
        Neighbours of a cell, itself not counted.
    search
        Who proposes candidates.

    Returns
    -------
    tables
        Together they hold each cell once.
    reach
        (N,) distance up to which a cell is a neighbour of each: that of the k-th nearest
        with the tolerance of a tie.

    Raises
    ------
    InputError
        If there are not more than ``k`` cells.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.nearest import nearest_with_ties
    >>> from stgraph.graph.search import KDTreeSearch
    >>> tables, _ = nearest_with_ties(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), 1, KDTreeSearch())
    >>> tables[0].count.tolist()
    [1, 2, 1]
    """
    n = len(pos)
    if n <= k:
        raise InputError(
            f"The slice has {n} cells, too few for {k} neighbours each: set n_neighbors below {n} "
            f"(graph.n_neighbors={max(n - 1, 1)}) or leave the slice out."
        )
    tables: list[NearestTable] = []
    reach = np.empty(n)
    rows, size = np.arange(n), min(_size_for_most(pos, k, search), n)
    while len(rows):
        index = search.nearest(pos, size, None if len(rows) == n else rows)
        count = np.empty(len(rows), dtype=np.int64)
        in_chunks(_choose, len(rows), pos, rows, index, k, size == n, count, reach)
        done = count > 0
        if done.all():
            return [*tables, NearestTable(rows, index, count)], reach
        if done.any():
            tables.append(NearestTable(rows[done], index[done], count[done]))
        # Cells with more ties than were seen are asked again for more.
        rows, size = rows[~done], min(_more(size), n)
    return tables, reach


def _more(size: int) -> int:
    return size + size // 2 + 1


def _size_for_most(pos: NDArray[np.float64], k: int, search: NeighborSearch) -> int:
    """Columns in which most cells have all their ties; more are needed on arrays, so a few cells are tried."""
    size = k + 2  # the cell itself, and one more to see whether the last one ties
    if len(pos) < 8 * _TRIED or k >= _TRIED // 4:
        return size
    # Neighbours in the order, so that most have their neighbours among them.
    middle = len(pos) // 2
    tables, _ = nearest_with_ties(np.ascontiguousarray(pos[middle : middle + _TRIED]), k, search)
    return int(max(tables, key=lambda table: len(table.rows)).index.shape[1])


@compiled
def _choose(first, last, pos, rows, index, k, complete, count, reach):  # type: ignore[no-untyped-def]
    """Move the neighbours of each row to its front; a count of 0 if more may tie than are here."""
    others = index.shape[1] - 1
    length = np.empty(others)
    for m in range(first, last):
        i = rows[m]
        size = 0
        for e in range(others + 1):
            j = index[m, e]
            # Among many coincident cells the cell itself may be missing: then the farthest is dropped.
            if j == i or size == others:
                continue
            dx, dy = pos[i, 0] - pos[j, 0], pos[i, 1] - pos[j, 1]
            d = np.sqrt(dx * dx + dy * dy)
            at = size
            while at > 0 and length[at - 1] > d:
                length[at], index[m, at] = length[at - 1], index[m, at - 1]
                at -= 1
            length[at], index[m, at] = d, j
            size += 1
        reach[i] = length[k - 1] * (1 + TIE)
        count[m] = 0
        if complete or length[others - 1] > reach[i]:
            while count[m] < others and length[count[m]] <= reach[i]:
                count[m] += 1
