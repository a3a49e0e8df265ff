"""The edges among some cells of a slice."""

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray


def induced(near: sp.csr_matrix, cells: NDArray[np.int64]) -> sp.csr_matrix:
    """Subgraph on ``cells``, at a cost that depends on them and not on the slice.

    Parameters
    ----------
    near
        (N, N) edge lengths; explicit zeros are edges, and stay.
    cells
        (n,) rows to keep, in increasing order.

    Returns
    -------
    csr_matrix
        (n, n) edge lengths, rows in increasing order of index.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.partition.subgraph import induced
    >>> near = KNN(1)(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]))
    >>> induced(near, np.array([1, 2])).toarray()
    array([[0., 2.],
           [2., 0.]])
    """
    cells = np.ascontiguousarray(cells, dtype=np.int64)
    indptr, indices, data = _induced(near.indptr, near.indices, near.data, cells)
    return sp.csr_matrix((data, indices, indptr), shape=(len(cells), len(cells)))


@njit(cache=True, nogil=True)  # type: ignore[misc]
def _induced(indptr, indices, data, cells):  # type: ignore[no-untyped-def]
    n = len(cells)
    bound = 0
    for cell in cells:
        bound += indptr[cell + 1] - indptr[cell]
    new_indptr = np.zeros(n + 1, dtype=np.int32)
    new_indices = np.empty(bound, dtype=np.int32)
    new_data = np.empty(bound, dtype=data.dtype)
    first, last = (cells[0], cells[-1]) if n else (0, -1)
    place = np.full(last - first + 1, -1, dtype=np.int32)
    for i in range(n):
        place[cells[i] - first] = i
    size = 0
    for i in range(n):
        for edge in range(indptr[cells[i]], indptr[cells[i] + 1]):
            other = indices[edge]
            if first <= other <= last and place[other - first] >= 0:
                new_indices[size] = place[other - first]
                new_data[size] = data[edge]
                size += 1
        new_indptr[i + 1] = size
    return new_indptr, new_indices[:size].copy(), new_data[:size].copy()
