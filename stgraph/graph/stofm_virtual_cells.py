"""SToFM's virtual cells, as its authors' code makes them."""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA

from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.graph.leiden import leiden
from stgraph.graph.slice_graph import VirtualCells
from stgraph.graph.virtual_cells import aggregate, check_cells


@dataclass(frozen=True)
class SToFMVirtualCells:
    """Algorithm 1 of SToFM: Leiden in a plane that mixes position and expression component by component.

    x is added to the first principal axis of the features and y to the second, so the result changes
    when the slice is turned, when the sign of an axis changes and, since Leiden visits cells by number, with
    the order of the cells. It is here to reproduce SToFM; `JointLeiden` has none of this.

    The neighbours in the plane are those of scanpy below 4096 cells, exact; above, scanpy would approximate
    them by pynndescent, and here they stay exact (a k-d tree). Of coincident cells, of which only one can be the
    last neighbour, scanpy may take another. The weights are umap's own, from
    ``umap.umap_.fuzzy_simplicial_set``, which ``scanpy.pp.neighbors`` calls too, and Leiden draws the random
    numbers that ``scanpy.tl.leiden(flavor="igraph")`` draws. There is no cap on the number of virtual cells.

    Parameters
    ----------
    alpha
        Weight of **space**; expression weighs ``1 - alpha``. (The paper's 0.8 is the weight of expression;
        `JointLeiden` counts like the paper.)
    resolution
        Of Leiden's modularity.
    n_neighbors
        Neighbours of a cell in the plane, itself counted, as in scanpy.
    random_state
        Seed of Leiden.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.stofm_virtual_cells import SToFMVirtualCells
    >>> rng = np.random.default_rng(0)
    >>> side = np.repeat([0, 1], 50)[:, None]
    >>> pos, x = rng.normal(side * 99, 1, (100, 2)), rng.normal(side * 99, 1, (100, 5))
    >>> virtual = SToFMVirtualCells(resolution=0.1)(x, pos)
    >>> virtual.num_cells.tolist()
    [50, 50]
    """

    alpha: float = 0.2
    resolution: float = 1.0
    n_neighbors: int = 10
    random_state: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InputError(f"SToFMVirtualCells needs alpha from 0 (expression) to 1 (space), not {self.alpha}.")
        check_positive(self, "resolution")
        check_whole(self, "n_neighbors", least=2)

    def __call__(self, x: NDArray[np.floating], pos: NDArray[np.float64]) -> VirtualCells:
        """Virtual cells of one slice; see `VirtualCellBuilder`."""
        check_cells(x, pos)
        if x.shape[1] < 2:
            raise InputError("SToFMVirtualCells needs at least 2 features, for it takes 2 principal axes of them.")
        n = len(x)
        membership = np.zeros(n, dtype=np.int64)
        if n > 1:
            graph = self._graph(self._plane(x, pos))
            membership = leiden(graph, resolution=self.resolution, random_state=self.random_state)
        return aggregate(membership, x, pos)

    def _plane(self, x: NDArray[np.floating], pos: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = pos.min(axis=0), pos.max(axis=0)
        diagonal = np.linalg.norm(high - low)
        space = (pos - (low + high) / 2) / (diagonal if diagonal > 0 else 1.0) * 100
        axes = np.zeros((len(x), 2))
        if (x != x[0]).any():
            axes = PCA(n_components=2, random_state=self.random_state).fit_transform(x)
        return np.asarray(self.alpha * _within_unit_disc(space) + (1 - self.alpha) * _within_unit_disc(axes))

    def _graph(self, plane: NDArray[np.float64]) -> sp.csr_matrix:
        n = len(plane)
        k = self.n_neighbors if self.n_neighbors <= n else 1 + n // 2  # what scanpy does in tiny slices
        distance, neighbor = cKDTree(plane).query(plane, k=k, workers=-1)
        # Of more than k coincident cells the cell itself may be missing; umap passes over it wherever it stands.
        missing = np.flatnonzero((neighbor != np.arange(n)[:, None]).all(axis=1))
        neighbor[missing, -1] = missing
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Tensorflow not installed")
            from umap.umap_ import fuzzy_simplicial_set  # noqa: PLC0415 - seconds to import
        weights, _, _ = fuzzy_simplicial_set(
            sp.coo_matrix((n, 1)),  # only its length is read
            k,
            None,
            None,
            knn_indices=neighbor,
            knn_dists=distance,
        )
        return sp.csr_matrix(weights)


def _within_unit_disc(points: NDArray[np.floating]) -> NDArray[np.floating]:
    largest = np.linalg.norm(points, axis=1).max()
    return points / largest if largest > 0 else points
