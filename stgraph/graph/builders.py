"""Who is whose neighbour: one small class for each answer."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph.errors import InputError
from stgraph.graph.edges import edges_to_csr

_TIE = 1e-9
"""Distances closer than this, relatively, are equal: a rigid motion changes less."""


class GraphBuilder(Protocol):
    """Turns the positions of one slice into its edges.

    Attributes
    ----------
    in_microns
        Whether the parameters are lengths in microns, so that a slice of unknown unit
        cannot be used.
    """

    in_microns: ClassVar[bool]

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``.

        Parameters
        ----------
        pos
            (N, 2) positions of one slice.

        Returns
        -------
        csr_matrix
            (N, N) edge lengths; row i holds the neighbours of cell i in increasing
            order of index. An explicit zero is an edge between coincident cells; there
            are no self-loops.
        """
        ...


@dataclass(frozen=True)
class KNN:
    """The ``n_neighbors`` nearest cells of each cell.

    Cells that tie with the last neighbour are neighbours too, so that the graph depends
    neither on the order of the cells nor on a rotation of the slice (Visium spots tie
    by the dozen).

    Parameters
    ----------
    n_neighbors
        Neighbours of a cell, itself not counted.
    symmetric
        Add the reverse of every edge; cells in a dense place then have more neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> KNN(n_neighbors=1)(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])).toarray()
    array([[0., 1., 0.],
           [1., 0., 2.],
           [0., 2., 0.]])
    """

    n_neighbors: int = 18
    symmetric: bool = True

    in_microns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n_neighbors < 1:
            raise InputError(f"KNN needs n_neighbors of at least 1, not {self.n_neighbors}.")

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``; see `GraphBuilder`."""
        n, k = len(pos), self.n_neighbors
        if n <= k:
            raise InputError(
                f"The slice has {n} cells, too few for {k} neighbours each: set n_neighbors below {n} "
                f"(graph.n_neighbors={max(n - 1, 1)}) or leave the slice out."
            )
        tree = cKDTree(pos)
        # The cell itself, its k neighbours, and one more to see whether the last one ties.
        size = min(k + 2, n)
        distance, neighbor = tree.query(pos, k=size, workers=-1)
        own = neighbor == np.arange(n)[:, None]
        # Among many coincident cells the cell itself may be missing: then the farthest is dropped.
        own[~own.any(axis=1), -1] = True
        others = size - 1
        distance = distance[~own].reshape(n, others)
        neighbor = neighbor[~own].reshape(n, others)
        reach = distance[:, k - 1] * (1 + _TIE)
        tied = distance[:, -1] <= reach if others > k else np.zeros(n, dtype=bool)
        row = np.repeat(np.flatnonzero(~tied), k)
        col = neighbor[~tied, :k].ravel()
        if tied.any():
            found = tree.query_ball_point(pos[tied], reach[tied], workers=-1)
            row = np.concatenate([row, np.repeat(np.flatnonzero(tied), [len(f) for f in found])])
            col = np.concatenate([col, np.concatenate([np.asarray(f, dtype=np.intp) for f in found])])
        return edges_to_csr(pos, row, col, symmetric=self.symmetric)


@dataclass(frozen=True)
class Radius:
    """All cells within ``radius`` of each cell; there is no cap on their number.

    Parameters
    ----------
    radius
        Largest length of an edge, microns.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import Radius
    >>> Radius(radius=2.0)(np.array([[0.0, 0.0], [1.0, 0.0], [3.5, 0.0]])).nnz
    2
    """

    radius: float = 50.0

    in_microns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.radius) and self.radius > 0):
            raise InputError(f"Radius needs a positive radius in microns, not {self.radius}.")

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``; see `GraphBuilder`."""
        pairs = cKDTree(pos).query_pairs(self.radius, output_type="ndarray")
        return edges_to_csr(pos, pairs[:, 0], pairs[:, 1], symmetric=True)
