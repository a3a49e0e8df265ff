"""The simple methods every result stands beside, as encoders anyone can call."""

import numpy as np
from numpy.typing import NDArray

from stgraph.graph.builders import KNN


def neighbor_mean(x: NDArray[np.floating], pos: NDArray[np.float64], *, n_neighbors: int = 30) -> NDArray[np.float64]:
    """Mean feature over the nearest cells of each cell, itself included.

    Cells that tie with the farthest of them count too, as in `stgraph.graph.builders.KNN`.
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
    values = np.asarray(x, dtype=np.float64)
    k = min(n_neighbors, len(x)) - 1
    if k < 1:
        return values
    near = KNN(k, symmetric=False)(pos)
    near.data[:] = 1.0  # also where two cells coincide
    return np.asarray((near @ values + values) / (1 + np.diff(near.indptr))[:, None])
