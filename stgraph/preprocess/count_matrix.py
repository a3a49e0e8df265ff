"""Raw counts as the CSR matrix that kernels read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError

_KINDS = ("int32", "int64", "float32", "float64")
"""Types of counts that kernels are compiled for."""


def count_matrix(counts: Any, genes: Sequence[str], *, name: str = "The slice") -> sp.csr_matrix:
    """Take counts as CSR, of a type that kernels know, or refuse them.

    Parameters
    ----------
    counts
        (N, G) matrix, sparse or dense, or one of a file that is open (``X`` of a backed AnnData), which is read whole.
    genes
        G names of its columns.
    name
        Of the slice, for the messages.

    Returns
    -------
    csr_matrix
        (N, G) of int32, int64, float32 or float64; not a copy where it was one already.

    Raises
    ------
    InputError
        If there are none, they do not fit to the genes, or one is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.count_matrix import count_matrix
    >>> count_matrix(np.array([[0, 2], [1, 0]], dtype=np.uint16), ["A", "B"]).data
    array([2, 1], dtype=int32)
    """
    if counts is None:
        raise InputError(f"{name} has no counts in X, but raw counts are needed: put them there.")
    matrix = sp.csr_matrix(counts.to_memory() if hasattr(counts, "to_memory") else counts)
    if matrix.shape[1] != len(genes):
        raise InputError(f"{name} has counts of {matrix.shape[1]} genes, but {len(genes)} names of genes.")
    if matrix.nnz and not (matrix.data.min() >= 0 and np.isfinite(matrix.data.max())):
        raise InputError(f"{name} has values in X that are negative or not finite, but raw counts are needed.")
    if matrix.dtype.name in _KINDS:
        return matrix
    return matrix.astype(np.int32 if np.can_cast(matrix.dtype, np.int32) else np.float64)


def counted_genes(counts: Any) -> NDArray[np.bool_]:
    """Which columns have a positive value.

    Parameters
    ----------
    counts
        (N, G) as of `count_matrix`.

    Returns
    -------
    ndarray
        (G,) bool.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.count_matrix import counted_genes
    >>> counted_genes(np.array([[0, 2], [0, 7]]))
    array([False,  True])
    """
    matrix = sp.csr_matrix(counts.to_memory() if hasattr(counts, "to_memory") else counts)
    return np.bincount(matrix.indices[matrix.data > 0], minlength=matrix.shape[1]) > 0
