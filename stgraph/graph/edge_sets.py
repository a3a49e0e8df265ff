"""Selecting and uniting edges of CSR matrices in which an explicit zero is an edge.

scipy's own sums, products and comparisons of sparse matrices drop explicit zeros.
"""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph._compiled import compiled
from stgraph.graph.edges import csr_of, index_dtype


def rows(near: sp.csr_matrix) -> NDArray[np.int32]:
    """Row of each edge, (E,)."""
    return np.repeat(np.arange(near.shape[0], dtype=near.indices.dtype), np.diff(near.indptr))


def in_order(near: sp.csr_matrix) -> sp.csr_matrix:
    """The same edges with rows in increasing order of index; the matrix itself if they are."""
    return near if near.has_sorted_indices else near.sorted_indices()


def kept(near: sp.csr_matrix, keep: NDArray[np.bool_]) -> sp.csr_matrix:
    """The edges for which ``keep``, (E,), is true; always a copy."""
    before = np.zeros(near.nnz + 1, dtype=near.indptr.dtype)
    np.cumsum(keep, out=before[1:])
    return in_order(sp.csr_matrix((near.data[keep], near.indices[keep], before[near.indptr]), shape=near.shape))


def union(near: sp.csr_matrix, other: sp.csr_matrix) -> sp.csr_matrix:
    """Edges of either; the length is that of ``near`` where both have it."""
    return _merged(in_order(near), in_order(other), mirrored=False)


def symmetrize(near: sp.csr_matrix) -> sp.csr_matrix:
    """Add the reverse of every edge, at the same length.

    Parameters
    ----------
    near
        (N, N) edge lengths, no edge twice; explicit zeros are edges.

    Returns
    -------
    csr_matrix
        (N, N) symmetric to the bit: where an edge and its reverse differ in length, that
        of the cell with the lower index is taken.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from stgraph.graph.edge_sets import symmetrize
    >>> symmetrize(sp.csr_matrix(np.array([[0.0, 5.0], [0.0, 0.0]]))).toarray()
    array([[0., 5.],
           [5., 0.]])
    """
    near = near.sorted_indices()
    return _merged(near, near.tocsc(), mirrored=True)  # the columns of one are the rows of its reverse


def reverse(near: sp.csr_matrix) -> NDArray[np.int64]:
    """Where the reverse of each edge is, (E,); -1 if there is none. Rows must be in order."""
    return np.asarray(_reverse(near.indptr, near.indices), dtype=np.int64)


def nearest(near: sp.csr_matrix, cap: int, tie: float) -> tuple[NDArray[np.bool_], int]:
    """Whether each edge is among the ``cap`` shortest of its row, and how many rows have more.

    Of edges that are equally long, up to a relative ``tie``, those of lower index come
    first. Self-loops are kept and not counted. Rows must be in order.
    """
    keep, n_above = _nearest(near.indptr, near.indices, near.data, cap, tie)
    return keep, int(n_above)


def _merged(near: sp.csr_matrix, other: sp.csr_matrix, *, mirrored: bool) -> sp.csr_matrix:
    n = near.shape[0]
    sides = [
        (m.indptr.astype(np.int64), m.indices.astype(index_dtype(n)), m.data.astype(np.float64)) for m in (near, other)
    ]
    return csr_of(*_merge(n, *sides[0], *sides[1], mirrored))


@compiled
def _merge(n, a_ptr, a_index, a_data, b_ptr, b_index, b_data, mirrored):  # type: ignore[no-untyped-def]
    """Rows in order; where both have an edge the first rules, but if ``mirrored`` the second below the diagonal."""
    indptr = np.zeros(n + 1, dtype=np.int64)
    indices = np.empty(len(a_index) + len(b_index), dtype=a_index.dtype)
    data = np.empty(len(indices))
    size = 0
    for i in range(n):
        a, b = a_ptr[i], b_ptr[i]
        while a < a_ptr[i + 1] or b < b_ptr[i + 1]:
            from_a = b == b_ptr[i + 1] or (a < a_ptr[i + 1] and a_index[a] <= b_index[b])
            from_b = a == a_ptr[i + 1] or (b < b_ptr[i + 1] and b_index[b] <= a_index[a])
            indices[size] = a_index[a] if from_a else b_index[b]
            first = not mirrored or indices[size] >= i
            data[size] = a_data[a] if from_a and (first or not from_b) else b_data[b]
            size += 1
            a += from_a
            b += from_b
        indptr[i + 1] = size
    return indptr, indices[:size].copy(), data[:size].copy()


@compiled
def _reverse(indptr, indices):  # type: ignore[no-untyped-def]
    found = np.full(len(indices), -1, dtype=np.int64)
    # Rows are visited in increasing order, so in each row what is looked for only increases.
    place = indptr[:-1].copy()
    for i in range(len(indptr) - 1):
        for edge in range(indptr[i], indptr[i + 1]):
            j = indices[edge]
            while place[j] < indptr[j + 1] and indices[place[j]] < i:
                place[j] += 1
            if place[j] < indptr[j + 1] and indices[place[j]] == i:
                found[edge] = place[j]
    return found


@compiled
def _nearest(indptr, indices, data, cap, tie):  # type: ignore[no-untyped-def]
    keep = np.ones(len(indices), dtype=np.bool_)
    n_above = 0
    widest = 0
    for i in range(len(indptr) - 1):
        widest = max(widest, indptr[i + 1] - indptr[i])
    # The edges of a row, shortest first.
    edges, length = np.empty(widest, dtype=np.int64), np.empty(widest)
    for i in range(len(indptr) - 1):
        size = 0
        for edge in range(indptr[i], indptr[i + 1]):
            if indices[edge] != i:
                edges[size], length[size] = edge, data[edge]
                size += 1
        if size <= cap:
            continue
        n_above += 1
        if size > 64:
            order = np.argsort(length[:size])
            edges[:size], length[:size] = edges[order], length[order]
        else:
            for m in range(1, size):
                edge, reach, at = edges[m], length[m], m
                while at > 0 and length[at - 1] > reach:
                    edges[at], length[at] = edges[at - 1], length[at - 1]
                    at -= 1
                edges[at], length[at] = edge, reach
        # The run of equal lengths that the cap falls into.
        first, last = cap, cap + 1
        while first > 0 and length[first] - length[first - 1] <= tie * length[first]:
            first -= 1
        while last < size and length[last] - length[last - 1] <= tie * length[last]:
            last += 1
        keep[edges[last:size]] = False
        keep[np.sort(edges[first:last])[cap - first :]] = False
    return keep, n_above
