"""Virtual cells: Leiden clusters over expression and space together, aggregated.

SToFM (Algorithm 1) adds coordinates and principal axes component by component, which
depends on how the slice lies on the page and on the arbitrary sign of an axis. Here two
graphs are joined instead, one over space and one over expression, so that neither a
rigid motion nor the sign of an axis changes the clusters.
"""

import random
from dataclasses import dataclass
from typing import Protocol

import igraph
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from stgraph.errors import InputError
from stgraph.graph.builders import KNN
from stgraph.graph.slice_graph import VirtualCells


class VirtualCellBuilder(Protocol):
    """Clusters the cells of one slice into its supernodes."""

    def __call__(self, x: NDArray[np.floating], pos: NDArray[np.float64]) -> VirtualCells:
        """Virtual cells of the cells with features ``x`` (N, C) at ``pos`` (N, 2)."""
        ...


@dataclass(frozen=True)
class JointLeiden:
    """Leiden on the union of a spatial and an expression neighbour graph.

    Parameters
    ----------
    alpha
        Weight of an edge of the expression graph; one of the spatial graph weighs
        ``1 - alpha``. SToFM's mixture is 0.8 for expression.
    resolution
        Of Leiden's modularity; larger gives more virtual cells.
    n_neighbors
        Neighbours of a cell in each of the two graphs.
    max_virtual
        Most virtual cells of a slice: the resolution is halved until it holds.
    random_state
        Seed of Leiden.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.virtual_cells import JointLeiden
    >>> rng = np.random.default_rng(0)
    >>> side = np.repeat([0, 1], 50)
    >>> pos, x = rng.normal(side[:, None] * 9, 1, (100, 2)), rng.normal(side[:, None] * 9, 1, (100, 5))
    >>> virtual = JointLeiden(resolution=0.1)(x, pos)
    >>> len(virtual), virtual.num_cells.tolist()
    (2, [50, 50])
    """

    alpha: float = 0.8
    resolution: float = 1.0
    n_neighbors: int = 10
    max_virtual: int = 64
    random_state: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InputError(f"JointLeiden needs alpha from 0 (space) to 1 (expression), not {self.alpha}.")
        if self.resolution <= 0 or self.n_neighbors < 1 or self.max_virtual < 1:
            raise InputError("JointLeiden needs positive resolution, n_neighbors and max_virtual.")

    def __call__(self, x: NDArray[np.floating], pos: NDArray[np.float64]) -> VirtualCells:
        """Virtual cells of one slice; see `VirtualCellBuilder`."""
        order = _canonical_order(x)
        x, pos = np.asarray(x, dtype=np.float64)[order], pos[order]
        joint = self._joint_graph(x, pos)
        resolution = self.resolution
        membership = _leiden(joint, resolution, self.random_state)
        while membership.max() + 1 > self.max_virtual and resolution > 1e-6:
            resolution /= 2
            membership = _leiden(joint, resolution, self.random_state)
        restored = np.empty_like(membership)
        restored[order] = membership
        back = np.argsort(order)
        return aggregate(restored, x[back], pos[back])

    def _joint_graph(self, x: NDArray[np.float64], pos: NDArray[np.float64]) -> sp.coo_matrix:
        n = len(x)
        k = min(self.n_neighbors, n - 1)
        if k == 0:
            return sp.coo_matrix((n, n))
        space = KNN(k, symmetric=False)(pos)
        space.data[:] = 1.0  # also where two cells coincide
        expression = NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(return_distance=False, X=x)
        joint = (1 - self.alpha) * space + self.alpha * _indicator(expression)
        return sp.triu(joint + joint.T, k=1).tocoo()


def aggregate(membership: NDArray[np.int64], x: NDArray[np.floating], pos: NDArray[np.float64]) -> VirtualCells:
    """Mean feature, mean position and number of members of each cluster.

    Parameters
    ----------
    membership
        (N,) cluster of each cell, 0 to V - 1, none empty.
    x, pos
        (N, C) features and (N, 2) positions.

    Returns
    -------
    VirtualCells
        Numbered by decreasing number of members.
    """
    sizes = np.bincount(membership)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    membership = rank[membership]
    num_cells = np.bincount(membership)
    mean = sp.csr_matrix((1.0 / num_cells[membership], (membership, np.arange(len(membership)))))
    return VirtualCells(
        membership=membership.astype(np.int64),
        x=np.asarray(mean @ np.asarray(x, dtype=np.float64), dtype=np.float32),
        pos=np.asarray(mean @ pos),
        num_cells=num_cells.astype(np.int64),
    )


def _canonical_order(x: NDArray[np.floating]) -> NDArray[np.intp]:
    """An order of the cells that does not depend on the order they come in.

    Leiden visits nodes by number, so its result is the same for permuted cells only if
    they are numbered by what they are.
    """
    return np.lexsort(np.asarray(x, dtype=np.float64).T[::-1])


def _indicator(neighbor: NDArray[np.intp]) -> sp.csr_matrix:
    n, k = neighbor.shape
    return sp.csr_matrix((np.ones(n * k), neighbor.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))


def _leiden(graph: sp.coo_matrix, resolution: float, seed: int) -> NDArray[np.int64]:
    edges = np.stack([graph.row, graph.col], axis=1)
    network = igraph.Graph(n=graph.shape[0], edges=edges)
    # igraph draws from one global generator; it is lent a seeded one and gets its own back.
    igraph.set_random_number_generator(random.Random(seed))
    try:
        clusters = network.community_leiden(
            objective_function="modularity", weights=graph.data, resolution=resolution, n_iterations=-1
        )
    finally:
        igraph.set_random_number_generator(random)
    return np.asarray(clusters.membership, dtype=np.int64)
