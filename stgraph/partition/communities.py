"""Parts that follow the communities of the cell graph."""

import heapq
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.leiden import leiden
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition, check_part_size, count_parts, size_bound
from stgraph.partition.space_filling import hilbert_order
from stgraph.partition.spatial import split_large
from stgraph.partition.undirected import UndirectedGraph, undirected


@dataclass(frozen=True)
class Communities:
    """Leiden communities of the cell graph, made even.

    Parts end where the tissue does: at gaps and where cells are sparse. Communities with more cells
    than `max_size` are bisected. Those with less than half of ``part_size`` join the adjacent one that
    they share most edges with and that has room, smallest first; those that find none (islands)
    are gathered along a Hilbert curve.

    Parameters
    ----------
    part_size
        Wanted number of cells in a part; no part has more than half as many again.
    resolution
        Of Leiden's modularity. None for the one at which the communities of an evenly filled
        plane have about ``part_size`` cells, whatever the size of the slice.
    n_iterations
        Rounds of Leiden; -1 for as many as improve, which takes several times as long.
    random_state
        Seed of Leiden.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.communities import Communities
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> bool((Communities(part_size=100)(graph).sizes <= 150).all())
    True
    """

    part_size: int = 1000
    resolution: float | None = None
    n_iterations: int = 2
    random_state: int = 0

    def __post_init__(self) -> None:
        check_part_size(self, self.part_size)
        if self.resolution is not None and not (np.isfinite(self.resolution) and self.resolution > 0):
            raise InputError(f"Communities needs a positive resolution, or None, not {self.resolution}.")
        if self.n_iterations == 0 or self.n_iterations < -1:
            raise InputError(f"Communities needs n_iterations of at least 1, or -1, not {self.n_iterations}.")

    @property
    def max_size(self) -> int:
        """Most cells that a part can have."""
        return size_bound(self.part_size)

    def __call__(self, graph: SliceGraph) -> Partition:
        """Parts of one slice; see `Partitioner`."""
        if count_parts(len(graph), self.part_size) == 1:
            return Partition.from_membership(np.zeros(len(graph), dtype=np.int64))
        cells = undirected(graph.near)
        community = leiden(
            _as_matrix(cells),
            resolution=self._resolution(cells),
            random_state=self.random_state,
            n_iterations=self.n_iterations,
        )
        community = Partition.from_membership(
            split_large(graph.pos, community, self.part_size, self.max_size)
        ).membership
        small = self.part_size / 2
        community = _merge_small(cells, community, small, self.max_size)
        return Partition.from_membership(_gather_small(graph.pos, community, small, self.part_size))

    def _resolution(self, cells: UndirectedGraph) -> float:
        if self.resolution is not None:
            return self.resolution
        # A compact community of s cells with d neighbours each loses a share of edges that goes with sqrt(d / s),
        # and modularity charges it resolution * s / N: best at s ** 1.5 ~ sqrt(d) N / resolution. The factor was fitted
        # to evenly filled planes with 6 to 20 neighbours.
        num_cells = len(cells)
        degree = max(1.0, len(cells.indices) / num_cells)
        return float(np.sqrt(degree) / 7 * num_cells / self.part_size**1.5)


def _as_matrix(cells: UndirectedGraph) -> sp.csr_matrix:
    weights = np.ones(len(cells.indices), dtype=np.int8) if cells.weights is None else cells.weights
    return sp.csr_matrix((weights, cells.indices, cells.indptr), shape=(len(cells), len(cells)))


def _merge_small(
    cells: UndirectedGraph, community: NDArray[np.int64], small: float, max_size: int
) -> NDArray[np.int64]:
    """Join communities below ``small`` to the neighbour with most common edges, where that does not get too large."""
    sizes = np.bincount(community).tolist()
    links = _links(cells, community)
    into = np.arange(len(sizes))
    waiting = [(sizes[one], one) for one in links if sizes[one] < small]
    heapq.heapify(waiting)
    while waiting:
        size, one = heapq.heappop(waiting)
        if into[one] != one or size != sizes[one]:
            continue  # it has grown or gone since
        room = [(edges, -other) for other, edges in links[one].items() if sizes[other] + size <= max_size]
        if not room:
            continue
        other = -max(room)[1]
        into[one] = other
        sizes[other] += size
        for third, edges in links.pop(one).items():
            del links[third][one]
            if third != other:
                links[other][third] = links[third][other] = links[other].get(third, 0) + edges
        if sizes[other] < small:
            heapq.heappush(waiting, (sizes[other], other))
    while (into != into[into]).any():
        into = into[into]
    return into[community]


def _links(cells: UndirectedGraph, community: NDArray[np.int64]) -> dict[int, dict[int, int]]:
    """Number of edges between each two adjacent communities."""
    of = community.astype(np.int32)
    one, other = np.repeat(of, np.diff(cells.indptr)), of[cells.indices]
    between = one != other
    pair = one[between].astype(np.int64) * (int(of.max()) + 1) + other[between]
    pairs, edges = np.unique(pair, return_counts=True)
    links: dict[int, dict[int, int]] = defaultdict(dict)
    for a, b, count in zip(*(x.tolist() for x in (*np.divmod(pairs, int(of.max()) + 1), edges)), strict=True):
        links[a][b] = count
    return links


def _gather_small(
    pos: NDArray[np.float64], community: NDArray[np.int64], small: float, part_size: int
) -> NDArray[np.int64]:
    """Join the communities that are still below ``small`` to ones of about ``part_size``, along a Hilbert curve."""
    parts = Partition.from_membership(community)
    sizes = parts.sizes
    islands = np.flatnonzero(sizes < small)
    middle = np.stack([np.bincount(parts.membership, axis) for axis in pos.T], axis=1) / sizes[:, None]
    islands = islands[hilbert_order(middle[islands])]
    into = np.arange(parts.num_parts)
    first, gathered = -1, part_size
    for island in islands.tolist():
        if gathered >= part_size:
            first, gathered = island, 0
        into[island] = first
        gathered += int(sizes[island])
    return into[parts.membership]
