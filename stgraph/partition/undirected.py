"""A neighbourhood graph as graph partitioning wants it: undirected, without loops."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph._compiled import compiled


@dataclass(frozen=True)
class UndirectedGraph:
    """Each edge in both directions, at the same weight; no loops, no repetitions.

    Attributes
    ----------
    indptr, indices
        (N + 1,) and (E,) int64, as of a CSR matrix.
    weights
        (E,) int64 positive weights, or None if all are the same.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    weights: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.indptr) - 1


def undirected(adjacency: sp.csr_matrix, weights: NDArray[np.int64] | None = None) -> UndirectedGraph:
    """Join a graph with its reverse; weights of the two directions add up.

    Only where the entries of ``adjacency`` are matters, not what they are: an explicit zero is an edge.

    Parameters
    ----------
    adjacency
        (N, N), directed or not.
    weights
        (E,) positive weight of each entry, in the order of ``adjacency.indices``; None for 1.

    Returns
    -------
    UndirectedGraph
        An edge that is there in both directions has the sum of the two weights. If all
        edges are, at equal weights, these stay as they are.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from stgraph.partition.undirected import undirected
    >>> graph = undirected(sp.csr_matrix([[1, 1, 0], [1, 0, 1], [0, 0, 0]]))
    >>> graph.indptr.tolist(), graph.indices.tolist(), graph.weights.tolist()
    ([0, 1, 3, 4], [1, 0, 2, 1], [2, 2, 1, 1])
    """
    known = np.zeros(0, dtype=np.int64) if weights is None else weights
    # Nearly always it is undirected already: to see so costs one pass and no copy.
    if not _is_undirected(adjacency.indptr, adjacency.indices, known):
        row = np.repeat(np.arange(adjacency.shape[0]), np.diff(adjacency.indptr))
        other = row != adjacency.indices
        value = np.ones(len(row), dtype=np.int64) if weights is None else weights
        half = sp.csr_matrix((value[other], (row[other], adjacency.indices[other])), shape=adjacency.shape)
        adjacency = (half + half.T).tocsr()
        adjacency.sort_indices()
        weights = adjacency.data
    if weights is not None and len(weights) and weights.min() == weights.max():
        weights = None
    return UndirectedGraph(adjacency.indptr.astype(np.int64), adjacency.indices.astype(np.int64), weights)


@compiled
def _is_undirected(indptr, indices, weights):  # type: ignore[no-untyped-def]
    """Whether the reverse of each edge is there, at the same weight, rows are in order and there are no loops.

    Rows are walked in order, so those who name a cell do so in the order in which it must name them.
    """
    expected = indptr[:-1].copy()
    for row in range(len(indptr) - 1):
        last = -1
        for edge in range(indptr[row], indptr[row + 1]):
            col = indices[edge]
            if col == row or col <= last:
                return False
            last = col
            reverse = expected[col]
            if reverse >= indptr[col + 1] or indices[reverse] != row:
                return False
            if len(weights) and weights[reverse] != weights[edge]:
                return False
            expected[col] = reverse + 1
    return True
