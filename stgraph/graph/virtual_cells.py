"""Virtual cells: Leiden clusters over expression and space together, aggregated.

SToFM (Algorithm 1, `stgraph.graph.stofm_virtual_cells`) adds coordinates and principal axes
component by component, which depends on how the slice lies on the page and on the arbitrary
sign of an axis. Here two graphs are joined instead, one over space and one over expression, so
that neither a rigid motion nor the sign of an axis changes the clusters.
"""

from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.graph.builders import KNN
from stgraph.graph.cell_order import canonical_order
from stgraph.graph.expression_neighbors import expression_neighbors
from stgraph.graph.leiden import Flavor, leiden
from stgraph.graph.merge_clusters import contract, merge_clusters
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
        Most virtual cells of a slice. If Leiden finds more, they are merged: by Leiden on their own
        graph, at a lower resolution; where they share no edge, with the nearest in features and position.
    random_state
        Seed of Leiden, and of the search for neighbours in large slices.
    flavor
        The library that runs Leiden, ``"igraph"`` or ``"leidenalg"``.
    n_iterations
        Rounds of Leiden; -1 for as many as improve the modularity. After the third it rises in the fourth decimal,
        and at a million cells each takes half a minute.

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
    flavor: Flavor = "igraph"
    n_iterations: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InputError(f"JointLeiden needs alpha from 0 (space) to 1 (expression), not {self.alpha}.")
        check_positive(self, "resolution")
        check_whole(self, "n_neighbors")
        check_whole(self, "max_virtual")
        check_whole(self, "random_state", least=0)
        if self.flavor not in get_args(Flavor):
            raise InputError(f"JointLeiden's flavor must be 'igraph' or 'leidenalg', not {self.flavor!r}.")
        if self.n_iterations < 1 and self.n_iterations != -1:
            raise InputError("JointLeiden needs a positive n_iterations, or -1 for as many as improve.")

    def __call__(self, x: NDArray[np.floating], pos: NDArray[np.float64]) -> VirtualCells:
        """Virtual cells of one slice; see `VirtualCellBuilder`."""
        check_cells(x, pos)
        order = canonical_order(x, pos)
        membership = np.empty(len(order), dtype=np.int64)
        membership[order] = self._clusters(x[order], pos[order])
        return aggregate(membership, x, pos)

    def _clusters(self, x: NDArray[np.floating], pos: NDArray[np.float64]) -> NDArray[np.int64]:
        joint = self._joint_graph(x, pos)
        membership = leiden(
            joint,
            resolution=self.resolution,
            random_state=self.random_state,
            flavor=self.flavor,
            n_iterations=self.n_iterations,
        )
        if membership.max() < self.max_virtual:
            return membership
        clusters = aggregate(membership, x, pos)
        merged = merge_clusters(
            clusters,
            contract(joint, clusters.membership),
            self.max_virtual,
            resolution=self.resolution,
            alpha=self.alpha,
            random_state=self.random_state,
            flavor=self.flavor,
        )
        return merged[clusters.membership]

    def _joint_graph(self, x: NDArray[np.floating], pos: NDArray[np.float64]) -> sp.csr_matrix:
        n = len(x)
        k = min(self.n_neighbors, n - 1)
        if k == 0:
            return sp.csr_matrix((n, n), dtype=np.float32)
        joint = sp.csr_matrix((n, n), dtype=np.float32)
        if self.alpha < 1:
            space = KNN(k, symmetric=False)(pos)
            weight = np.full(space.nnz, 1 - self.alpha, dtype=np.float32)  # also where two cells coincide
            joint = sp.csr_matrix((weight, space.indices, space.indptr), shape=(n, n))
        if self.alpha > 0:
            similar = expression_neighbors(x, k, random_state=self.random_state).astype(joint.indices.dtype)
            weight = np.full(similar.size, self.alpha, dtype=np.float32)
            bounds = np.arange(0, similar.size + 1, k, dtype=joint.indptr.dtype)
            joint = joint + sp.csr_matrix((weight, similar.ravel(), bounds), shape=(n, n))
        return joint + joint.T.tocsr()


def aggregate(
    membership: NDArray[np.int64],
    x: NDArray[np.floating],
    pos: NDArray[np.float64],
    *,
    num_cells: NDArray[np.int64] | None = None,
) -> VirtualCells:
    """Mean feature, mean position and number of cells of each cluster.

    Parameters
    ----------
    membership
        (N,) cluster of each member, 0 to V - 1, none empty.
    x, pos
        (N, C) features and (N, 2) positions of the members.
    num_cells
        (N,) cells that each member stands for, where members are virtual cells themselves;
        means are over cells. None where they are cells.

    Returns
    -------
    VirtualCells
        Numbered by decreasing number of cells.

    Raises
    ------
    InputError
        If there are no cells, the lengths differ, numbers are not finite or a cluster is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.virtual_cells import aggregate
    >>> aggregate(np.array([0, 1, 1]), np.array([[1.0], [2.0], [4.0]]), np.zeros((3, 2))).x.tolist()
    [[3.0], [1.0]]
    """
    check_cells(x, pos)
    membership = _checked_membership(membership, len(x))
    weights = np.ones(len(x), dtype=np.int64) if num_cells is None else np.asarray(num_cells, dtype=np.int64)
    if weights.shape != (len(x),) or weights.min() < 1:
        raise InputError(f"num_cells must give a positive number of cells for each of {len(x)} members.")
    sizes = np.bincount(membership, weights).astype(np.int64)
    by_size = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[by_size] = np.arange(len(sizes))
    membership, sizes = rank[membership], sizes[by_size]
    mean = sp.csr_matrix((weights / sizes[membership], (membership, np.arange(len(membership)))))
    return VirtualCells(
        membership=membership,
        x=_mean_features(mean, x),
        pos=np.asarray(mean @ np.asarray(pos, dtype=np.float64)),
        num_cells=sizes,
    )


def check_cells(x: NDArray[np.floating], pos: NDArray[np.float64]) -> None:
    """Refuse features and positions that are no cells.

    Parameters
    ----------
    x
        Should be (N, C), finite, N at least 1.
    pos
        Should be (N, 2), finite.

    Raises
    ------
    InputError
        If they are not.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.virtual_cells import check_cells
    >>> check_cells(np.zeros((3, 5)), np.zeros((3, 2)))
    """
    if x.ndim != 2 or pos.ndim != 2 or len(x) != len(pos) or pos.shape[1] != 2:
        raise InputError(
            f"Virtual cells need features of shape (N, C) and positions of shape (N, 2), not {x.shape} and {pos.shape}."
        )
    if not len(x):
        raise InputError("There are no cells to make virtual cells of.")
    for name, values in (("features", x), ("positions", pos)):
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise InputError(
                f"The {name} of {int((~finite).sum())} of {len(x)} cells are not finite (the first is cell "
                f"{int(np.argmin(finite))}): leave these cells out or fill the gaps."
            )


def _checked_membership(membership: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    membership = np.asarray(membership)
    if membership.shape != (n,) or not np.issubdtype(membership.dtype, np.integer):
        raise InputError(
            f"The membership must give a whole number for each of {n} cells, not {membership.dtype} of shape "
            f"{membership.shape}."
        )
    if membership.min() < 0:
        raise InputError("The membership has negative numbers: every cell must belong to a virtual cell.")
    empty = np.flatnonzero(np.bincount(membership) == 0)
    if len(empty):
        raise InputError(
            f"The membership leaves {len(empty)} virtual cells empty (the first is {int(empty[0])}): number them "
            "from 0 without gaps."
        )
    return membership.astype(np.int64)


def _mean_features(mean: sp.csr_matrix, x: NDArray[np.floating], block: int = 16) -> NDArray[np.float32]:
    """Means in float64, a few columns at a time: a copy of all features would double the memory of a large slice."""
    means = np.empty((mean.shape[0], x.shape[1]), dtype=np.float32)
    for first in range(0, x.shape[1], block):
        means[:, first : first + block] = mean @ x[:, first : first + block].astype(np.float64)
    return means
