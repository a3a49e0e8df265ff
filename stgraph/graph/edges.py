"""Edge lists, neighbour tables and patterns to CSR matrices of lengths.

Explicit zeros are edges between coincident cells here, so scipy's conversions, which may
drop them or sum what is repeated, are not used.
"""

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike, NDArray

from stgraph._chunks import in_chunks
from stgraph._compiled import compiled


def edges_to_csr(
    pos: NDArray[np.float64],
    row: NDArray[np.integer],
    col: NDArray[np.integer],
    *,
    symmetric: bool,
    order: NDArray[np.int64] | None = None,
) -> sp.csr_matrix:
    """Edge list to CSR of lengths, without self-loops or repeated edges.

    Parameters
    ----------
    pos
        (N, 2) positions.
    row, col
        (E,) the cell and its neighbour.
    symmetric
        Add the reverse of every edge.
    order
        (N,) a permutation: cell ``i`` of ``pos``, ``row`` and ``col`` is cell
        ``order[i]`` of the result; None if it is cell ``i``. It takes a third of the
        time if the cells stand in `stgraph.graph.spatial_order.spatial_order`.

    Returns
    -------
    csr_matrix
        (N, N) lengths in the unit of ``pos``, in increasing order of index in each row;
        the length of an edge and of its reverse are the same to the bit.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.edges import edges_to_csr
    >>> pos = np.array([[0.0, 0.0], [3.0, 4.0]])
    >>> edges_to_csr(pos, np.array([0, 0, 1]), np.array([1, 1, 1]), symmetric=True).toarray()
    array([[0., 5.],
           [5., 0.]])
    """
    pos = np.array(pos, dtype=np.float64)
    start = np.zeros(len(pos) + 1, dtype=np.int64)
    _count_edges(row, col, symmetric, start[1:])
    np.cumsum(start, out=start)
    neighbors = np.empty(start[-1], dtype=index_dtype(len(pos)))
    _fill_edges(row, col, symmetric, start[:-1].copy(), neighbors)
    return groups_to_csr(pos, start, neighbors, order=order)


def groups_to_csr(
    pos: NDArray[np.float64],
    start: NDArray[np.int64],
    neighbors: NDArray[np.integer],
    *,
    longest: float = np.inf,
    order: NDArray[np.int64] | None = None,
) -> sp.csr_matrix:
    """Neighbours of each cell, in any order and perhaps repeated, to CSR of lengths without self-loops.

    Parameters
    ----------
    pos
        (N, 2) positions.
    start
        (N + 1,) where the neighbours of each cell begin.
    neighbors
        (E,) them; overwritten.
    longest
        Longer edges are left out.
    order
        As in `edges_to_csr`.

    Returns
    -------
    csr_matrix
        (N, N) lengths in the unit of ``pos``.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.edges import groups_to_csr
    >>> pos = np.array([[0.0, 0.0], [3.0, 4.0]])
    >>> groups_to_csr(pos, np.array([0, 2, 2]), np.array([1, 1])).toarray()
    array([[0., 5.],
           [0., 0.]])
    """
    n = len(pos)
    order = np.arange(n) if order is None else np.array(order, dtype=np.int64)
    count = np.zeros(n, dtype=np.int64)
    in_chunks(_sort_rows, n, pos, start, neighbors, longest, order, count)
    indptr = np.zeros(n + 1, dtype=np.int64)
    indptr[1:][order] = count
    np.cumsum(indptr, out=indptr)
    indices, data = np.empty(indptr[-1], dtype=neighbors.dtype), np.empty(indptr[-1])
    in_chunks(_place_rows, n, start, neighbors, order, count, pos, indptr, indices, data)
    return csr_of(indptr, indices, data)


def table_to_csr(pos: NDArray[np.float64], index: NDArray[np.integer]) -> sp.csr_matrix:
    """Table of neighbours to CSR of lengths: the directed edges of each cell to its own.

    Parameters
    ----------
    pos
        (N, 2) positions.
    index
        (N, K) neighbours of each cell; entries below 0 are padding.

    Returns
    -------
    csr_matrix
        (N, N) lengths, as `edges_to_csr` gives them; the cell itself is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.edges import table_to_csr
    >>> table_to_csr(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0, 1], [1, -1]])).toarray()
    array([[0., 5.],
           [0., 0.]])
    """
    row, column = np.nonzero(index >= 0)
    return edges_to_csr(pos, row, index[row, column], symmetric=False)


def with_lengths(pattern: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
    """Write the lengths of the edges of ``pattern``, whatever its entries were.

    Parameters
    ----------
    pattern
        (N, N) matrix; every stored entry is an edge, also a zero.
    pos
        (N, 2) positions.

    Returns
    -------
    csr_matrix
        (N, N) lengths in the unit of ``pos``, a new matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from stgraph.graph.edges import with_lengths
    >>> with_lengths(sp.csr_matrix([[0, 1], [0, 0]]), np.array([[0.0, 0.0], [3.0, 4.0]])).toarray()
    array([[0., 5.],
           [0., 0.]])
    """
    data = np.empty(len(pattern.indices))
    pos = np.array(pos, dtype=np.float64)
    in_chunks(_measure_rows, pattern.shape[0], pattern.indptr, pattern.indices, pos, data)
    return sp.csr_matrix((data, pattern.indices.copy(), pattern.indptr.copy()), shape=pattern.shape)


def index_dtype(largest: int) -> DTypeLike:
    """The smallest type scipy has for indices and pointers up to ``largest``.

    Examples
    --------
    >>> from stgraph.graph.edges import index_dtype
    >>> index_dtype(3_000_000).__name__, index_dtype(3_000_000_000).__name__
    ('int32', 'int64')
    """
    return np.int32 if largest <= np.iinfo(np.int32).max else np.int64


def csr_of(indptr: NDArray[np.int64], indices: NDArray[np.integer], data: NDArray[np.float64]) -> sp.csr_matrix:
    """Square matrix of rows that are in order, with the smallest indices scipy has for it.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.edges import csr_of
    >>> csr_of(np.array([0, 1, 1]), np.array([1]), np.array([5.0])).toarray()
    array([[0., 5.],
           [0., 0.]])
    """
    n = len(indptr) - 1
    index = index_dtype(max(n, len(indices)))
    near = sp.csr_matrix((data, indices.astype(index, copy=False), indptr.astype(index)), shape=(n, n))
    near.has_canonical_format = True
    return near


@compiled
def _count_edges(row, col, symmetric, degree):  # type: ignore[no-untyped-def]
    for e in range(len(row)):
        degree[row[e]] += 1
        if symmetric:
            degree[col[e]] += 1


@compiled
def _fill_edges(row, col, symmetric, place, neighbors):  # type: ignore[no-untyped-def]
    for e in range(len(row)):
        i, j = row[e], col[e]
        neighbors[place[i]] = j
        place[i] += 1
        if symmetric:
            neighbors[place[j]] = i
            place[j] += 1


@compiled
def _length(pos, i, j):  # type: ignore[no-untyped-def]
    dx, dy = pos[i, 0] - pos[j, 0], pos[i, 1] - pos[j, 1]
    return np.sqrt(dx * dx + dy * dy)


@compiled
def _sort_rows(first, last, pos, start, neighbors, longest, order, count):  # type: ignore[no-untyped-def]
    """Neighbours of each row in the order of their final index, each once, at the row's start."""
    most = 0
    for i in range(first, last):
        most = max(most, start[i + 1] - start[i])
    # The final index and the present one in one number: the half of what there is to move.
    key = np.empty(most, dtype=np.int64)
    for i in range(first, last):
        size = 0
        for e in range(start[i], start[i + 1]):
            j = np.int64(neighbors[e])
            if j == i or _length(pos, i, j) > longest:
                continue
            new, at = order[j] << 32 | j, size
            if start[i + 1] - start[i] <= 64:
                while at > 0 and key[at - 1] > new:
                    key[at] = key[at - 1]
                    at -= 1
            key[at] = new
            size += 1
        if start[i + 1] - start[i] > 64:
            key[:size].sort()
        kept = 0
        for e in range(size):
            if e == 0 or key[e] != key[e - 1]:
                neighbors[start[i] + kept] = key[e] & 0xFFFFFFFF
                kept += 1
        count[i] = kept


@compiled
def _place_rows(first, last, start, neighbors, order, count, pos, indptr, indices, data):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        to = indptr[order[i]]
        for e in range(count[i]):
            j = neighbors[start[i] + e]
            indices[to + e] = order[j]
            data[to + e] = _length(pos, i, j)


@compiled
def _measure_rows(first, last, indptr, indices, pos, data):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        for e in range(indptr[i], indptr[i + 1]):
            data[e] = _length(pos, i, indices[e])
