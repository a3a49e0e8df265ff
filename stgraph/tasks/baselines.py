"""The simple methods every result stands beside, as encoders anyone can call."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree


def neighbor_mean(x: NDArray[np.floating], pos: NDArray[np.float64], *, n_neighbors: int = 30) -> NDArray[np.float64]:
    """Mean feature over the nearest cells of each cell, itself included.

    On principal components this is the strongest simple description of a spatial domain.

    Parameters
    ----------
    x
        (N, C) features of one slice.
    pos
        (N, 2) positions.
    n_neighbors
        Cells in a mean, the cell itself counted; all of them if there are fewer.

    Returns
    -------
    ndarray
        (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.baselines import neighbor_mean
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    >>> neighbor_mean(np.array([[1.0], [3.0], [8.0]]), pos, n_neighbors=2).ravel()
    array([2. , 2. , 5.5])
    """
    n, k = len(x), min(n_neighbors, len(x))
    near = cKDTree(pos).query(pos, k=np.arange(1, k + 1), workers=-1)[1]
    mean = sp.csr_matrix((np.full(n * k, 1 / k), near.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    return np.asarray(mean @ np.asarray(x, dtype=np.float64))
