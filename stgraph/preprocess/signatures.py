"""What the cells of a type express on average, and the genes that tell types apart."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError

_LEAST_SHARE = 1e-6
"""Added to shares of the counts before they are compared: a gene seen once is no marker."""


def type_profiles(counts: sp.csr_matrix, types: NDArray[np.int64], n_types: int) -> NDArray[np.float64]:
    """Mean counts of the cells of each type.

    They are not divided by their sums: a large cell gives a spot more molecules than a small
    one, so that weights on these profiles are numbers of cells, and weights on profiles that
    sum to one are shares of molecules.

    Parameters
    ----------
    counts
        (N, G).
    types
        (N,) type of each cell, -1 for none.
    n_types
        K.

    Returns
    -------
    ndarray
        (K, G) float64; zeros for a type without cells.

    Raises
    ------
    InputError
        If no cell has a type.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from stgraph.preprocess.signatures import type_profiles
    >>> type_profiles(sp.csr_matrix([[2, 0], [4, 0], [0, 3]]), np.array([0, 0, 1]), 2)
    array([[3., 0.],
           [0., 3.]])
    """
    rows = np.flatnonzero(types >= 0)
    if not len(rows):
        raise InputError("No cell of the reference has a type, so there are no signatures.")
    n_cells = np.bincount(types[rows], minlength=n_types)
    share = 1 / np.maximum(n_cells, 1)[types[rows]]
    mean = sp.csr_matrix((share, (types[rows], rows)), shape=(n_types, counts.shape[0]))
    return np.asarray((mean @ counts).toarray(), dtype=np.float64)


def marker_genes(profiles: NDArray[np.float64], n_per_type: int) -> NDArray[np.int64]:
    """Genes that are higher in one type than in any other, by the ratio of their shares of the counts.

    Parameters
    ----------
    profiles
        (K, G), as `type_profiles` gives them.
    n_per_type
        Genes for each type; all expressed ones if there are no more.

    Returns
    -------
    ndarray
        (g,) columns, in increasing order; each is expressed in some type.

    Raises
    ------
    InputError
        If nothing is expressed.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.signatures import marker_genes
    >>> marker_genes(np.array([[9.0, 5.0, 0.0], [0.0, 5.0, 9.0]]), n_per_type=1)
    array([0, 2])
    """
    expressed = np.flatnonzero(profiles.sum(axis=0) > 0)
    if not len(expressed):
        raise InputError("No gene is expressed in the reference, so there are no signatures.")
    there = profiles.sum(axis=1) > 0
    share = profiles[np.ix_(there, expressed)]
    share = share / share.sum(axis=1, keepdims=True) + _LEAST_SHARE
    if len(expressed) <= n_per_type or len(share) < 2:
        return expressed
    ordered = np.sort(share, axis=0)
    # The best of the others: the largest, or the second where the type itself is the largest.
    others = np.where(share == ordered[-1], ordered[-2], ordered[-1])
    best = np.argsort(others / share, axis=1, kind="stable")[:, :n_per_type]
    return np.asarray(expressed[np.unique(best)])
