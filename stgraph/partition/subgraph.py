"""The edges among some cells of a slice."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph._compiled import compiled
from stgraph.partition.cell_lookup import find_slot, make_table


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


@compiled
def _induced(indptr, indices, data, cells):  # type: ignore[no-untyped-def]
    keys, places = make_table(len(cells))
    bound = 0
    for i in range(len(cells)):
        slot = find_slot(keys, cells[i])
        keys[slot] = cells[i]
        places[slot] = i
        bound += indptr[cells[i] + 1] - indptr[cells[i]]
    new_indptr = np.zeros(len(cells) + 1, dtype=np.int32)
    new_indices = np.empty(bound, dtype=np.int32)
    new_data = np.empty(bound, dtype=data.dtype)
    size = 0
    for i in range(len(cells)):
        for edge in range(indptr[cells[i]], indptr[cells[i] + 1]):
            slot = find_slot(keys, indices[edge])
            if keys[slot] >= 0:
                new_indices[size] = places[slot]
                new_data[size] = data[edge]
                size += 1
        new_indptr[i + 1] = size
    return new_indptr, new_indices[:size].copy(), new_data[:size].copy()
