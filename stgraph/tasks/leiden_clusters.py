"""Leiden's communities at a given number."""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from stgraph.errors import StgraphWarning
from stgraph.graph.arguments import check_whole
from stgraph.graph.expression_neighbors import expression_neighbors
from stgraph.graph.leiden import leiden
from stgraph.tasks.clusterers import Arrays, Labels, Positions, by_slice, drawn_cells, stacked

_LOWEST, _HIGHEST = 1e-3, 1e3
_BISECTIONS = 16


@dataclass(frozen=True)
class LeidenClusters:
    """Leiden on a graph of nearest descriptions, at the resolution that gives the number asked for.

    The resolution is found by bisection of its logarithm. There may be none: the number
    jumps, and a graph in pieces has a community for each piece at least. Then the result
    with the next larger number is taken, the pair of communities whose union has the least
    additional variance (Ward's criterion) is merged until the number is right, and a
    `StgraphWarning` says so. Where there are not as many communities at any resolution, it
    says that there are fewer.

    Parameters
    ----------
    n_neighbors
        Nearest descriptions of a cell in the graph, itself not counted.
    max_cells
        Cells that are clustered, drawn at random where there are more; another takes the
        cluster of most of its ``n_neighbors`` nearest among them. None for no limit.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.leiden_clusters import LeidenClusters
    >>> x = np.random.default_rng(0).normal(size=(100, 2)) + np.repeat([0, 9], 50)[:, None]
    >>> np.bincount(LeidenClusters()({"a": x}, {"a": x}, 2)["a"]).tolist()
    [50, 50]
    """

    n_neighbors: int = 15
    max_cells: int | None = 20_000

    def __post_init__(self) -> None:
        check_whole(self, "n_neighbors")
        if self.max_cells is not None:
            check_whole(self, "max_cells", 2)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "leiden"

    def __call__(self, embeddings: Arrays, positions: Positions, n_domains: int, *, random_state: int = 0) -> Labels:
        """Cluster of each cell; see `stgraph.tasks.clusterers.Clusterer`. Positions are not looked at."""
        x = stacked(embeddings, n_domains)
        drawn = drawn_cells(len(x), self.max_cells, n_domains, random_state)
        some = x[drawn]
        if n_domains == 1 or len(some) < 3:
            return by_slice(np.arange(len(x)) % n_domains, embeddings)
        found = _communities(_neighbor_graph(some, self.n_neighbors, random_state), n_domains, random_state)
        number = int(found.max()) + 1
        if number != n_domains:
            warnings.warn(
                f"Leiden found no resolution with {n_domains} domains: "
                + (f"{number} were merged." if number > n_domains else f"there are {number} only."),
                StgraphWarning,
                stacklevel=2,
            )
            found = merge_nearest(some, found, n_domains)
        if len(some) == len(x):
            return by_slice(found, embeddings)
        vote = KNeighborsClassifier(min(self.n_neighbors, len(some))).fit(some, found)
        labels = np.asarray(vote.predict(x))
        labels[drawn] = found
        return by_slice(labels, embeddings)


def merge_nearest(x: NDArray[np.float64], labels: NDArray[np.int64], n_domains: int) -> NDArray[np.int64]:
    """Merge the pair of clusters with the least additional variance until there are few enough.

    Parameters
    ----------
    x
        (N, C).
    labels
        (N,) clusters, 0 to V - 1, none empty.
    n_domains
        Most clusters that may be left.

    Returns
    -------
    ndarray
        (N,) int64, 0 to at most ``n_domains`` - 1, none empty.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.leiden_clusters import merge_nearest
    >>> merge_nearest(np.array([[0.0], [1.0], [9.0]]), np.array([0, 1, 2]), 2).tolist()
    [0, 0, 1]
    """
    size = np.bincount(labels).astype(np.float64)
    members = sp.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    center = (members @ x) / size[:, None]
    new = np.arange(len(size))
    while len(size) > max(n_domains, 1):
        apart = ((center[:, None] - center) ** 2).sum(axis=2)
        cost = apart * size[:, None] * size / (size[:, None] + size)
        cost[np.tril_indices(len(size))] = np.inf
        keep, gone = np.unravel_index(cost.argmin(), cost.shape)
        center[keep] = (size[keep] * center[keep] + size[gone] * center[gone]) / (size[keep] + size[gone])
        size[keep] += size[gone]
        center, size = np.delete(center, gone, axis=0), np.delete(size, gone)
        new[new == gone] = keep
        new[new > gone] -= 1
    return np.asarray(new[labels], dtype=np.int64)


def _neighbor_graph(x: NDArray[np.float64], n_neighbors: int, random_state: int) -> sp.csr_matrix:
    """1 where a cell is among the nearest of the other."""
    k = min(n_neighbors, len(x) - 1)
    near = expression_neighbors(x, k, random_state=random_state)
    start = np.arange(0, near.size + 1, k)
    directed = sp.csr_matrix((np.ones(near.size), near.ravel(), start), shape=(len(x), len(x)))
    return directed.maximum(directed.T).tocsr()


def _communities(graph: sp.csr_matrix, n_domains: int, random_state: int) -> NDArray[np.int64]:
    """As many communities, or the next larger number that was come by; the most there are if all are fewer."""
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    resolution = 0.0
    best: NDArray[np.int64] | None = None
    most = np.zeros(graph.shape[0], dtype=np.int64)
    for _ in range(_BISECTIONS):
        # Two rounds find the number; more cost as much again and move few cells.
        found = leiden(graph, resolution=float(np.exp(resolution)), random_state=random_state, n_iterations=2)
        number = int(found.max()) + 1
        if number == n_domains:
            return found
        if number > n_domains:
            high = resolution
            if best is None or number < best.max() + 1:
                best = found
        else:
            low = resolution
            if number > most.max() + 1:
                most = found
        resolution = (low + high) / 2
    return most if best is None else best
