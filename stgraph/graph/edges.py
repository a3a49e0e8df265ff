"""Edge lists to CSR matrices of lengths."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def edges_to_csr(
    pos: NDArray[np.float64], row: NDArray[np.intp], col: NDArray[np.intp], *, symmetric: bool
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

    Returns
    -------
    csr_matrix
        (N, N) lengths in the unit of ``pos``; explicit zeros are kept, as scipy's own
        conversions would not promise.
    """
    n = len(pos)
    row, col = row.astype(np.int64), col.astype(np.int64)
    if symmetric:
        row, col = np.concatenate([row, col]), np.concatenate([col, row])
    edge = np.unique((row * n + col)[row != col])
    row, col = edge // n, edge % n
    index = np.int32 if max(n, len(edge)) < np.iinfo(np.int32).max else np.int64
    indptr = np.zeros(n + 1, dtype=index)
    np.cumsum(np.bincount(row, minlength=n), out=indptr[1:])
    length = np.linalg.norm(pos[row] - pos[col], axis=1)
    return sp.csr_matrix((length, col.astype(index), indptr), shape=(n, n))
