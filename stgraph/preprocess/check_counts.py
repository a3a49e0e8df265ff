"""Tell counts from what was made of them: logarithms, scaled values, rounded ones."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError

_LARGEST_LOG = 20.0
"""No logarithm of a count is above it."""

_ENOUGH_VALUES = 1000
"""So many counts have no common divisor."""

_ENOUGH_GENES = 10
"""A cell with so many expressed genes has a gene that was counted once, or nearly always."""

_NO_SINGLES = 0.9
"""Share of such cells without one from which on cells of one depth were scaled to it."""

_ENOUGH_CELLS = 100
"""So many such cells have one somewhere, if they have as many zeros: what is rare enough for none is at times one."""

_TIED_GENES, _TIED_SHARE = 5, 0.2
"""Genes of a cell, and their share in those expressed, at its least value if that stands for one count. Of counts
drawn by Poisson with any mean up to 5 % of cells have so many at a least value above 1, if they express at most 50
genes, and hardly any if they express more. Of real slices .2 % at most; scaled to their median and rounded, 20 %."""

_TIED_CELLS_OF_FEW, _TIED_CELLS_OF_MANY, _MANY_GENES = 0.1, 0.01, 50
"""Share of such cells from which on values were scaled, where cells express few genes and where they express many."""

_LEAST_TIED_CELLS = 10


def look_normalised(counts: sp.csr_matrix) -> bool:
    """Whether values are rather logarithms than counts: most are fractions, and none is above 20.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.check_counts import look_normalised
    >>> from stgraph.preprocess.count_matrix import count_matrix
    >>> raw = np.array([[0.0, 2.0], [1.0, 7.0]])
    >>> look_normalised(count_matrix(raw, "AB")), look_normalised(count_matrix(np.log1p(raw), "AB"))
    (False, True)
    """
    values = counts.data[counts.data > 0]
    return bool(len(_fractions(values)) > 0.5 * len(values) and _small_as_logarithms(values))


def check_counts(counts: sp.csr_matrix, name: str = "The slice") -> None:
    """Refuse values that are no counts, saying what they look like.

    For models that read counts themselves, where others go wrong silently. Whole numbers are taken for counts, also
    where all cells have the same depth (as after downsampling) or few counts, unless they were scaled and rounded:
    all have a common divisor, there is no 1 among them, or the least value of cells, which many of their genes have,
    is not 1. Whole numbers that could have been counted, as logarithms that were cut to 1 and 2, pass.

    Parameters
    ----------
    counts
        (N, G) of `count_matrix`, which has refused what is negative or not finite.
    name
        Of the slice, for the message.

    Raises
    ------
    InputError
        If the values are logarithms, were scaled, or are fractions of another kind.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.check_counts import check_counts
    >>> from stgraph.preprocess.count_matrix import count_matrix
    >>> check_counts(count_matrix(np.array([[0.0, 2.0], [1.0, 7.0]]), "AB"))
    >>> check_counts(count_matrix(np.array([[0.0, 1.1], [0.7, 2.1]]), "AB"))
    Traceback (most recent call last):
    stgraph.errors.InputError: The slice has values in X that look like logarithms of counts ...
    """
    values = counts.data[counts.data > 0]
    if len(values) == 0:
        return
    fractions = _fractions(values)
    reason = _kind_of_fractions(counts, values, fractions[0]) if len(fractions) else _scaled_and_rounded(counts)
    if reason:
        raise InputError(f"{name} has values in X that {reason}, but raw counts are needed: put these into X.")


def _fractions(values: NDArray[np.number]) -> NDArray[np.number]:
    return values[values != np.rint(values)] if values.dtype.kind == "f" else values[:0]


def _small_as_logarithms(values: NDArray[np.number]) -> bool:
    return bool(values.max() <= _LARGEST_LOG)


def _kind_of_fractions(counts: sp.csr_matrix, values: NDArray[np.number], fraction: float) -> str:
    example = f"such as {fraction:g}"
    depth = _constant(_depths(counts))
    if depth:
        return f"were scaled so that each cell sums to {depth:g} ({example})"
    if _small_as_logarithms(values):
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
    """Why whole numbers are no counts; nothing if they may be."""
    divisor = int(np.gcd.reduce(np.unique(counts.data).astype(np.int64)))
    if divisor > 1 and counts.count_nonzero() >= _ENOUGH_VALUES:
        return f"are all multiples of {divisor}, so that they were scaled"
    rows = counts.copy()
    rows.sum_duplicates()
    rows.eliminate_zeros()
    expressed = np.diff(rows.indptr)
    rows, expressed = rows[expressed >= _ENOUGH_GENES], expressed[expressed >= _ENOUGH_GENES]
    if not len(expressed):
        return ""
    least = np.minimum.reduceat(rows.data, rows.indptr[:-1])
    tied = np.add.reduceat((rows.data == np.repeat(least, expressed)).astype(np.int64), rows.indptr[:-1])
    without = least > 1
    depth = _constant(_depths(counts), tolerance=0.02)
    if depth and without.mean() >= _NO_SINGLES:
        return f"sum to about {depth:g} in each cell and are hardly ever 1, so that they were scaled and rounded"
    zeros = len(expressed) * len(np.unique(rows.indices)) - rows.nnz
    if without.all() and len(expressed) >= _ENOUGH_CELLS and zeros >= _ENOUGH_CELLS:
        return f"are never 1 in {len(expressed)} cells, so that they were scaled or are logarithms, and rounded"
    several = without & (tied >= _TIED_GENES) & (tied >= _TIED_SHARE * expressed)
    limit = _TIED_CELLS_OF_FEW if np.median(expressed) < _MANY_GENES else _TIED_CELLS_OF_MANY
    if several.sum() >= _LEAST_TIED_CELLS and several.mean() >= limit:
        return (
            f"in {several.mean():.0%} of cells have a least value above 1 that many genes share, so that cells were "
            "scaled to like depth or are logarithms, and rounded"
        )
    return ""


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
