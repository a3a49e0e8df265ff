"""Who may be near: the search behind the builders, which can be exchanged.

A search only proposes. Builders measure lengths and decide ties themselves, so that the
graph is the same to the bit whichever search proposed.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph.graph.edges import index_dtype
from stgraph.graph.strips import within_radius

_BLOCK = 2**20
"""Entries of a table found at once, for the search returns twice 64 bits for each."""


@dataclass(frozen=True)
class Candidates:
    """The cells that may be near each cell, numbered as suits the search.

    Attributes
    ----------
    order
        (N,) int64, a permutation: the cell numbered i below is cell ``order[i]``.
    start
        (N + 1,) int64, where the candidates of each cell begin.
    neighbors
        (E,) the candidates, a new array, those of a cell in any order.
    """

    order: NDArray[np.int64]
    start: NDArray[np.int64]
    neighbors: NDArray[np.integer]


class NeighborSearch(Protocol):
    """Finds cells that are near each other."""

    def nearest(self, pos: NDArray[np.float64], k: int, rows: NDArray[np.int64] | None = None) -> NDArray[np.integer]:
        """The ``k`` nearest cells of each cell, itself among them.

        Parameters
        ----------
        pos
            (N, 2) positions. It is fastest where cells near each other in space are
            near each other here; see `stgraph.graph.spatial_order.spatial_order`.
        k
            Number of cells, at most N.
        rows
            (M,) the cells to find neighbours of; None for all.

        Returns
        -------
        ndarray
            (M, k) cells, nearest first. Cells as far as each other, up to rounding, come
            in any order, and any of them may be missing if they are the farthest: among
            more than ``k`` coincident cells the cell itself, too.
        """
        ...

    def within(self, pos: NDArray[np.float64], radius: float) -> Candidates:
        """All cells not farther than ``radius`` from each cell, without a cap on their number.

        Parameters
        ----------
        pos
            (N, 2) positions, in any order.
        radius
            Largest distance, 0 for coincident cells, in the unit of ``pos``.

        Returns
        -------
        Candidates
            The cell itself and cells that are too far by a rounding error may be among
            them.
        """
        ...


@dataclass(frozen=True)
class KDTreeSearch:
    """Search with scipy's k-d tree, and with strips where a radius is given, on all cores.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.search import KDTreeSearch
    >>> KDTreeSearch().nearest(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), 2)
    array([[0, 1],
           [1, 0],
           [2, 1]], dtype=int32)
    """

    def nearest(self, pos: NDArray[np.float64], k: int, rows: NDArray[np.int64] | None = None) -> NDArray[np.integer]:
        """The ``k`` nearest cells of each; see `NeighborSearch`."""
        # Halving space rather than the number of cells is twice as fast to build, and no slower to search.
        tree = cKDTree(pos, balanced_tree=False)
        num_rows = len(pos) if rows is None else len(rows)
        index = np.empty((num_rows, k), dtype=index_dtype(len(pos)))
        step = max(_BLOCK // k, 1)
        for start in range(0, num_rows, step):
            block = slice(start, start + step)
            asked = pos[block] if rows is None else pos[rows[block]]
            index[block] = tree.query(asked, k=k, workers=-1)[1].reshape(-1, k)
        return index

    def within(self, pos: NDArray[np.float64], radius: float) -> Candidates:
        """All cells up to ``radius`` from each; see `NeighborSearch`. No tree: strips are faster here."""
        return Candidates(*within_radius(pos, radius, index_dtype(len(pos))))
