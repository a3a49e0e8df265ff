"""Selecting and uniting edges of CSR matrices in which an explicit zero is an edge.

scipy's own sums, products and comparisons of sparse matrices drop explicit zeros.
"""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.graph.compiled import compiled


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
    near, other = in_order(near), in_order(other)
    # Indices may need 64 bits where those of neither input do.
    index = np.int32 if near.nnz + other.nnz < np.iinfo(np.int32).max else np.int64
    indptr, indices, data = _union(
        near.indptr.astype(index), near.indices, near.data, other.indptr, other.indices, other.data
    )
    return sp.csr_matrix((data, indices, indptr), shape=near.shape)


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


@compiled
def _union(indptr, indices, data, other_indptr, other_indices, other_data):  # type: ignore[no-untyped-def]
    n = len(indptr) - 1
    new_indptr = np.zeros(n + 1, dtype=indptr.dtype)
    new_indices = np.empty(len(indices) + len(other_indices), dtype=indices.dtype)
    new_data = np.empty(len(new_indices), dtype=data.dtype)
    size = 0
    for i in range(n):
        a, b = indptr[i], other_indptr[i]
        while a < indptr[i + 1] or b < other_indptr[i + 1]:
            ours = b >= other_indptr[i + 1] or (a < indptr[i + 1] and indices[a] <= other_indices[b])
            if ours:
                new_indices[size] = indices[a]
                new_data[size] = data[a]
                if b < other_indptr[i + 1] and other_indices[b] == indices[a]:
                    b += 1
                a += 1
            else:
                new_indices[size] = other_indices[b]
                new_data[size] = other_data[b]
                b += 1
            size += 1
        new_indptr[i + 1] = size
    return new_indptr, new_indices[:size].copy(), new_data[:size].copy()


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
