"""Weights of the neighbours of a cell by distance, and by direction."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.baselines.nearest_graphs import nearest_graphs


def azimuthal_weights(pos: NDArray[np.float64], n_neighbors: int) -> tuple[sp.csr_matrix, sp.csr_matrix, sp.csr_matrix]:
    """What to multiply features with for their mean around each cell, and for their first harmonic.

    A neighbour at distance r weighs ``exp(-(r / m)^2)``, with m the median distance of the
    neighbours of the cell; weights of a cell sum to 1. The harmonic multiplies these by the
    direction of the neighbour, after its features were centred on the plain mean of the
    neighbours. Its magnitude, the azimuthal Gabor filter [1]_, does not change with a
    rotation or reflection of the slice.

    Parameters
    ----------
    pos
        (N, 2) positions of one slice, in any unit.
    n_neighbors
        Cells in the mean; the harmonic looks at twice as many. Those that tie with the last
        count too; all other cells if there are fewer.

    Returns
    -------
    mean, real, imaginary : csr_matrix
        (N, N) float32 each. Rows of a cell without neighbours are empty.

    References
    ----------
    .. [1] Singhal, V. et al. BANKSY unifies cell typing and tissue domain segmentation for
       scalable spatial omics data analysis. Nature Genetics 56, 431-441 (2024).

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.baselines.azimuthal import azimuthal_weights
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 9.0]])
    >>> azimuthal_weights(pos, 2)[0].toarray()[0]
    array([0. , 0.5, 0.5, 0. ], dtype=float32)
    """
    near, wide = nearest_graphs(pos, [n_neighbors, 2 * n_neighbors])
    weight, row = _decay(wide), _rows(wide)
    step = pos[wide.indices] - pos[row]
    # Of coincident cells the direction is undefined: they pull nowhere.
    direction = step / np.maximum(np.hypot(*step.T), 1e-300)[:, None]
    count = np.maximum(np.diff(wide.indptr), 1)
    harmonics = []
    for component in direction.T:
        pull = weight * component
        total = np.bincount(row, pull, minlength=len(pos))
        harmonics.append(_like(wide, pull - (total / count)[row]))
    return _like(near, _decay(near)), harmonics[0], harmonics[1]


def _decay(near: sp.csr_matrix) -> NDArray[np.float64]:
    row = _rows(near)
    ratio = near.data / np.maximum(_row_medians(near), 1e-300)[row]
    weight = np.exp(-(np.minimum(ratio, 1e3) ** 2))
    total = np.bincount(row, weight, minlength=near.shape[0])
    return np.asarray(weight / total[row])


def _row_medians(near: sp.csr_matrix) -> NDArray[np.float64]:
    count, median = np.diff(near.indptr), np.zeros(near.shape[0])
    for size in np.unique(count[count > 0]):
        rows = np.flatnonzero(count == size)
        median[rows] = np.median(near.data[near.indptr[rows][:, None] + np.arange(size)], axis=1)
    return median


def _rows(near: sp.csr_matrix) -> NDArray[np.int64]:
    return np.repeat(np.arange(near.shape[0]), np.diff(near.indptr))


def _like(near: sp.csr_matrix, data: NDArray[np.float64]) -> sp.csr_matrix:
    return sp.csr_matrix((data.astype(np.float32), near.indices, near.indptr), shape=near.shape)
