"""Raw counts as the CSR matrix that kernels read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError

_KINDS = ("int32", "int64", "float32", "float64")
"""Types of counts that kernels are compiled for."""

_LARGEST_LOG = 20.0
"""No logarithm of a count is above it."""

_ENOUGH_GENES = 10
"""A cell with so many expressed genes has a gene that was counted once, or nearly always."""

_NO_SINGLES = 0.9
"""Share of such cells without one from which on they were not counted."""


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


def look_normalised(counts: sp.csr_matrix) -> bool:
    """Whether values are rather logarithms than counts: most are fractions, and none is above 20.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.count_matrix import count_matrix, look_normalised
    >>> raw = np.array([[0.0, 2.0], [1.0, 7.0]])
    >>> look_normalised(count_matrix(raw, "AB")), look_normalised(count_matrix(np.log1p(raw), "AB"))
    (False, True)
    """
    values = counts.data[counts.data > 0]
    if counts.dtype.kind != "f" or len(values) == 0:
        return False
    return bool(values.max() <= _LARGEST_LOG and (values != np.round(values)).mean() > 0.5)


def check_counts(counts: sp.csr_matrix, name: str = "The slice") -> None:
    """Refuse values that are no counts, saying what they look like.

    For models that read counts themselves, where others go wrong silently. Whole numbers are taken for counts, also
    where all cells have the same depth (as after downsampling), unless hardly a cell has a single count of any gene
    (they were scaled and then rounded).

    Parameters
    ----------
    counts
        (N, G) of `count_matrix`, which has refused what is negative or not finite.
    name
        Of the slice, for the message.

    Raises
    ------
    InputError
        If the values are logarithms, were scaled to a constant depth, or are fractions of another kind.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.count_matrix import check_counts, count_matrix
    >>> check_counts(count_matrix(np.array([[0.0, 2.0], [1.0, 7.0]]), "AB"))
    >>> check_counts(count_matrix(np.array([[0.0, 1.1], [0.7, 2.1]]), "AB"))
    Traceback (most recent call last):
    stgraph.errors.InputError: The slice has values in X that look like logarithms of counts ...
    """
    values = counts.data[counts.data > 0]
    if len(values) == 0:
        return
    whole = counts.dtype.kind != "f" or bool((values == np.rint(values)).all())
    reason = _scaled_and_rounded(counts) if whole else _kind_of_fractions(counts, values)
    if reason:
        raise InputError(f"{name} has values in X that {reason}, but raw counts are needed: put these into X.")


def _kind_of_fractions(counts: sp.csr_matrix, values: NDArray[np.floating]) -> str:
    example = f"such as {values[values != np.rint(values)][0]:g}"
    depth = _constant(_depths(counts))
    if depth:
        return f"were scaled so that each cell sums to {depth:g} ({example})"
    if values.max() <= _LARGEST_LOG:
        linear = counts.astype(np.float64)
        for base, back in (("natural logarithms", np.expm1), ("logarithms to base 2", _exp2m1)):
            linear.data = back(counts.data.astype(np.float64))
            depth = _constant(_depths(linear))
            if depth:
                return f"are {base} of counts that were scaled to {depth:g} a cell ({example})"
        return f"look like logarithms of counts (fractions {example}, and none is above 20)"
    return (
        f"are no whole numbers ({example}: scaled, corrected or measured otherwise; if they are expected counts, "
        "round them)"
    )


def _scaled_and_rounded(counts: sp.csr_matrix) -> str:
    depth = _constant(_depths(counts), tolerance=0.02)
    filled = np.flatnonzero(np.diff(counts.indptr) >= _ENOUGH_GENES)
    if not depth or not len(filled):
        return ""
    rows = counts[filled]
    least = np.minimum.reduceat(np.where(rows.data > 0, rows.data, np.inf), rows.indptr[:-1])
    if (least > 1).mean() < _NO_SINGLES:
        return ""
    return f"sum to about {depth:g} in each cell and are hardly ever 1, so that they were scaled and rounded"


def _depths(counts: sp.csr_matrix) -> NDArray[np.float64]:
    depths = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    return np.asarray(depths[depths > 0])


def _constant(depths: NDArray[np.float64], tolerance: float = 1e-3) -> float:
    """The depth that nearly all of at least three cells have, to three digits; else 0."""
    middle = float(np.median(depths)) if len(depths) else 0.0
    alike = len(depths) >= 3 and float((np.abs(depths - middle) <= tolerance * middle).mean()) >= 0.95
    return float(f"{middle:.3g}") if alike else 0.0


def _exp2m1(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp2(values) - 1


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
