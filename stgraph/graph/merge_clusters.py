"""Fewer virtual cells: those that belong together are merged until there are few enough.

All of this is done on the graph of the clusters, which is small, so it costs next to nothing beside
the clustering of the cells.
"""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import pairwise_distances_argmin

from stgraph.graph.leiden import Flavor, leiden
from stgraph.graph.slice_graph import VirtualCells

_BISECTIONS = 6
"""After which the resolution is known to about 1 %."""

_SMALLEST = 1e-12
"""Resolution, relative to the first, at which modularity keeps nothing apart that is connected."""


def merge_clusters(
    clusters: VirtualCells,
    graph: sp.csr_matrix,
    max_clusters: int,
    *,
    resolution: float,
    alpha: float,
    random_state: int,
    flavor: Flavor = "igraph",
) -> NDArray[np.int64]:
    """Merge clusters by Leiden, at about the largest resolution that leaves at most ``max_clusters``.

    The resolution is halved until it holds, and what it was halved too far is taken back by
    bisection. Leiden joins only what is connected, so that fragments of tissue would take the places of
    the rest: before, the clusters of components that hold less than half of a fair share of the cells (all
    of them, divided by ``max_clusters``), or that are too many, are merged with the nearest ones.

    Parameters
    ----------
    clusters
        The V clusters.
    graph
        (V, V) weights between them, as `contract` gives them.
    max_clusters
        Most clusters that may be left, at least 1.
    resolution
        That of the clusters there are.
    alpha
        Which clusters are nearest: weight of the squared distance between features, in units of their
        variance; that of positions weighs ``1 - alpha``.
    random_state, flavor
        As in `leiden`.

    Returns
    -------
    ndarray
        (V,) int64 new cluster of each cluster, none empty; at most ``max_clusters``, always.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from stgraph.graph.merge_clusters import merge_clusters
    >>> from stgraph.graph.virtual_cells import aggregate
    >>> path = sp.csr_matrix([[8.0, 4.0, 0.0], [4.0, 8.0, 1.0], [0.0, 1.0, 8.0]])
    >>> clusters = aggregate(np.arange(3), np.eye(3), np.eye(3)[:, :2])
    >>> merge_clusters(clusters, path, 2, resolution=2.0, alpha=0.5, random_state=0).tolist()
    [0, 0, 1]
    """
    if len(clusters) <= max_clusters:
        return np.arange(len(clusters), dtype=np.int64)
    joined = _join_components(clusters, graph, max_clusters, alpha)
    graph = contract(graph, joined)
    merged = _coarsen(graph, max_clusters, resolution, random_state, flavor)
    return np.asarray(merged[joined])


def contract(graph: sp.csr_matrix, membership: NDArray[np.int64]) -> sp.csr_matrix:
    """Sum the weights between the clusters of a graph.

    Parameters
    ----------
    graph
        (N, N) weights.
    membership
        (N,) cluster of each node, 0 to V - 1.

    Returns
    -------
    csr_matrix
        (V, V) float64, symmetric if ``graph`` is. The diagonal holds what is inside of a cluster, every
        edge in both directions.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from stgraph.graph.merge_clusters import contract
    >>> path = sp.csr_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> contract(path, np.array([0, 0, 1])).toarray()
    array([[2., 1.],
           [1., 0.]])
    """
    n, v = len(membership), int(membership.max(initial=-1)) + 1
    rows = sp.csr_matrix((np.ones(n), (membership, np.arange(n))), shape=(v, n))
    # Renaming the columns spares a second product; entries of a row may then repeat, which the first one sums.
    column = membership.astype(graph.indices.dtype)[graph.indices]
    return sp.csr_matrix(rows @ sp.csr_matrix((graph.data, column, graph.indptr), shape=(n, v)))


def _coarsen(
    graph: sp.csr_matrix, max_clusters: int, resolution: float, random_state: int, flavor: Flavor
) -> NDArray[np.int64]:
    membership = np.arange(graph.shape[0], dtype=np.int64)
    coarse_enough, too_fine, least = resolution, resolution, resolution * _SMALLEST
    while membership.max(initial=-1) >= max_clusters:
        too_fine, coarse_enough = coarse_enough, coarse_enough / 2
        if coarse_enough < least:
            return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
        membership = leiden(graph, resolution=coarse_enough, random_state=random_state, flavor=flavor)
    if too_fine == coarse_enough:  # joining the components was enough
        return membership
    for _ in range(_BISECTIONS):
        between = float(np.sqrt(coarse_enough * too_fine))
        candidate = leiden(graph, resolution=between, random_state=random_state, flavor=flavor)
        if candidate.max(initial=-1) >= max_clusters:
            too_fine = between
        else:
            coarse_enough, membership = between, candidate
    return membership


def _join_components(
    clusters: VirtualCells, graph: sp.csr_matrix, max_components: int, alpha: float
) -> NDArray[np.int64]:
    """Give the clusters of the smallest components of the graph to the nearest clusters of the others."""
    membership = np.arange(len(clusters), dtype=np.int64)
    sizes, place = clusters.num_cells, _place(clusters, alpha)
    least = sizes.sum() / (2 * max_components)
    while True:
        n_components, component = connected_components(graph, directed=False)
        cells = np.bincount(component, sizes)
        n_wanted = min(max(int((cells >= least).sum()), 1), max_components)
        if n_components <= n_wanted:
            return membership
        # In one round at most half of them, so that neighbours that have grown together can go on together.
        n_kept = max(n_wanted, (n_components + 1) // 2)
        largest = np.argsort(-cells, kind="stable")[:n_kept]
        stays = np.isin(component, largest)
        joined = np.empty(len(sizes), dtype=np.int64)
        joined[stays] = np.arange(stays.sum())
        joined[~stays] = pairwise_distances_argmin(place[~stays], place[stays])
        membership, graph = joined[membership], contract(graph, joined)
        total = np.bincount(joined, sizes)
        sums = sp.csr_matrix((sizes.astype(np.float64), (joined, np.arange(len(sizes))))) @ place
        sizes, place = total.astype(np.int64), sums / total[:, None]


def _place(clusters: VirtualCells, alpha: float) -> NDArray[np.float64]:
    """(V, C + 2) where the clusters lie in a space of features and positions that no rigid motion changes."""
    scaled = []
    for weight, mean in ((alpha, clusters.x.astype(np.float64)), (1 - alpha, clusters.pos)):
        centred = mean - np.average(mean, axis=0, weights=clusters.num_cells)
        variance = np.average(np.square(centred).sum(axis=1), weights=clusters.num_cells)
        scaled.append(centred * np.sqrt(weight / variance) if variance > 0 else np.zeros_like(centred))
    return np.concatenate(scaled, axis=1)
