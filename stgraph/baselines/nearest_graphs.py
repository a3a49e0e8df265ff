"""The nearest cells at several sizes from one search, and means over them."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph._chunks import in_chunks
from stgraph._compiled import compiled
from stgraph.errors import InputError
from stgraph.graph.builders import KNN
from stgraph.graph.nearest import TIE

_BLOCK = 2**22
"""Means made at once."""


def check_sizes(owner: object) -> None:
    """Refuse an attribute ``n_neighbors`` that is no whole number of at least 1, or no sequence of such.

    Raises
    ------
    InputError
        If it is something else.
    """
    value = owner.n_neighbors  # type: ignore[attr-defined]
    sizes = value if isinstance(value, tuple) else (value,)
    whole = [isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 1 for k in sizes]
    if not whole or not all(whole):
        raise InputError(f"{type(owner).__name__} needs n_neighbors of whole numbers of at least 1, not {value!r}.")


def nearest_graphs(pos: NDArray[np.float64], sizes: Sequence[int]) -> list[sp.csr_matrix]:
    """For each size k, the k nearest cells of each cell, and all that tie with the last.

    Each is what `stgraph.graph.builders.KNN` gives without reverse edges.

    Parameters
    ----------
    pos
        (N, 2) positions of one slice, in any unit.
    sizes
        Neighbours of a cell, itself not counted; all other cells if there are fewer.

    Returns
    -------
    list of csr_matrix
        (N, N) distances, an explicit zero between coincident cells; in the order of ``sizes``.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.baselines.nearest_graphs import nearest_graphs
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    >>> [near.nnz for near in nearest_graphs(pos, (1, 2))]
    [3, 6]
    """
    n = len(pos)
    kept = [min(size, n - 1) for size in sizes]
    largest = max(kept)
    if largest < 1:
        return [sp.csr_matrix((n, n)) for _ in kept]
    near = KNN(largest, symmetric=False)(pos)
    return [near if k == largest else _nearer(near, k) for k in kept]


def _nearer(near: sp.csr_matrix, k: int) -> sp.csr_matrix:
    n = near.shape[0]
    if k < 1:
        return sp.csr_matrix((n, n))
    reach = np.empty(n)
    in_chunks(_kth_length, n, near.indptr, near.data, k, reach)
    kept = near.data <= np.repeat(reach * (1 + TIE), np.diff(near.indptr))
    start = np.concatenate([[0], np.cumsum(kept)])[near.indptr]
    return sp.csr_matrix((near.data[kept], near.indices[kept], start.astype(near.indptr.dtype)), shape=(n, n))


@compiled
def _kth_length(first, last, indptr, data, k, reach):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        reach[i] = np.partition(data[indptr[i] : indptr[i + 1]], k - 1)[k - 1]


def mean_over(near: sp.csr_matrix, x: NDArray[np.floating], *, include_self: bool) -> NDArray[np.floating]:
    """Mean feature of the neighbours of each cell.

    Parameters
    ----------
    near
        (N, N); its entries are edges, whatever their value.
    x
        (N, C) features; the mean is of their type.
    include_self
        Count the cell itself too. Without, a cell that has no neighbours gets zeros.

    Returns
    -------
    ndarray
        (N, C).
    """
    mean = np.empty_like(x)
    for rows, block in mean_blocks([near], x, np.arange(len(x)), include_self=include_self):
        mean[rows] = block
    return mean


def mean_blocks(
    graphs: Sequence[sp.csr_matrix], x: NDArray[np.floating], order: NDArray[np.int64], *, include_self: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
    """Means over the neighbours in several graphs, side by side, for some cells at a time.

    Parameters
    ----------
    graphs, x, include_self
        As in `mean_over`.
    order
        (N,) the cells in the order to look at them; that of
        `stgraph.graph.spatial_order.spatial_order` is several times faster than any, for
        the features of neighbours are then still at hand.

    Yields
    ------
    rows : ndarray
        (n,) the next cells.
    mean : ndarray
        (n, C x number of graphs).
    """
    step = max(_BLOCK // max(len(graphs) * x.shape[1], 1), 1)
    # Ones, also where two cells coincide.
    edges = [sp.csr_matrix((np.ones(g.nnz, dtype=x.dtype), g.indices, g.indptr), shape=g.shape) for g in graphs]
    counts = [np.maximum(np.diff(g.indptr) + include_self, 1).astype(x.dtype) for g in graphs]
    for start in range(0, len(x), step):
        rows = order[start : start + step]
        own = x[rows] if include_self else x.dtype.type(0)
        means = [(edge[rows] @ x + own) / count[rows, None] for edge, count in zip(edges, counts, strict=True)]
        yield rows, np.concatenate(means, axis=1)


def in_rows(blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.floating]]], num_rows: int) -> NDArray[np.float32]:
    """The blocks put where they belong: (N, C) of rows (n,) and values (n, C) of each."""
    rows, values = zip(*blocks, strict=True)
    out = np.empty((num_rows, values[0].shape[1]), dtype=np.float32)
    for row, value in zip(rows, values, strict=True):
        out[row] = value
    return out
