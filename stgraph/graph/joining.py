"""Steps that add edges to a graph, one small class for each."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph.graph import edge_sets
from stgraph.graph.arguments import check_whole
from stgraph.graph.edges import edges_to_csr
from stgraph.graph.nearest import TIE


@dataclass(frozen=True)
class Symmetrize:
    """Adds the reverse of every edge: the union of a graph with its reverse.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.joining import Symmetrize
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    >>> near = KNN(1, symmetric=False)(pos)
    >>> near.nnz, Symmetrize()(near, pos).nnz
    (3, 4)
    """

    in_microns: ClassVar[bool] = False

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        return edge_sets.symmetrize(near)


@dataclass(frozen=True)
class BridgeIsolated:
    """Joins cells without any neighbour to their nearest cells, both ways.

    The nearest cells may be isolated themselves; cells that tie with the last one are
    joined too. A cell of a directed graph that is somebody's neighbour is not isolated.
    There is no limit on the length of these edges: put `MaxLength` behind for one.

    Parameters
    ----------
    n_neighbors
        Cells that an isolated cell is joined to.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import Radius
    >>> from stgraph.graph.joining import BridgeIsolated
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    >>> BridgeIsolated()(Radius(2.0)(pos), pos).toarray()
    array([[0., 1., 0.],
           [1., 0., 8.],
           [0., 8., 0.]])
    """

    n_neighbors: int = 1

    in_microns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_whole(self, "n_neighbors")

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        near = edge_sets.in_order(near)
        row = edge_sets.rows(near)
        others = row != near.indices
        isolated = np.ones(len(pos), dtype=bool)
        isolated[row[others]] = False
        isolated[near.indices[others]] = False
        cells = np.flatnonzero(isolated)
        k = min(self.n_neighbors, len(pos) - 1)
        if len(cells) == 0 or k < 1:
            return near.copy()
        tree = cKDTree(pos)
        # The cell itself is the first, or as near as the first.
        reach = tree.query(pos[cells], k=[k + 1], workers=-1)[0][:, 0] * (1 + TIE)
        found = tree.query_ball_point(pos[cells], reach, workers=-1)
        col = np.concatenate([np.asarray(f, dtype=np.int64) for f in found])
        bridges = edges_to_csr(pos, np.repeat(cells, [len(f) for f in found]), col, symmetric=True)
        return edge_sets.union(near, bridges)


@dataclass(frozen=True)
class SelfLoops:
    """Makes every cell its own neighbour, at an explicit distance of zero.

    Put it last: what other steps call a neighbour is another cell.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.joining import SelfLoops
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> SelfLoops()(KNN(1)(pos), pos).indices
    array([0, 1, 0, 1], dtype=int32)
    """

    in_microns: ClassVar[bool] = False

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        n = near.shape[0]
        loops = sp.csr_matrix((np.zeros(n), np.arange(n), np.arange(n + 1)), shape=(n, n))
        return edge_sets.union(near, loops)
