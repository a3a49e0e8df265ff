"""Parts that cut few edges, by METIS."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pymetis
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition, check_part_size, count_parts, size_bound
from stgraph.partition.spatial import bisect, split_large
from stgraph.partition.undirected import undirected

_FINEST = 10**6
"""METIS counts in whole numbers: weights are told apart down to the largest one's share of this."""


@dataclass(frozen=True)
class Metis:
    """METIS (Karypis and Kumar 1998) on the cell graph: balanced parts, few cut edges.

    A directed graph is joined with its reverse first. A part that METIS makes too large is
    bisected; a graph without any edge is bisected as a whole.

    Parameters
    ----------
    part_size
        Wanted number of cells in a part; no part has more than half as many again.
    node_weight
        What parts have alike: ``"cells"``, or ``"edges"`` for the number of edges, which is what
        attention on a part costs, where density varies over the slice.
    edge_weight
        What cutting an edge costs: ``"unit"`` counts edges; ``"proximity"`` counts an edge of no
        length as 1, one as long as the spacing of the slice as a half, a longer one less.
    random_state
        Seed of METIS.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.metis import Metis
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> Metis(part_size=100)(graph).num_parts
    4
    """

    part_size: int = 1000
    node_weight: Literal["cells", "edges"] = "cells"
    edge_weight: Literal["unit", "proximity"] = "unit"
    random_state: int = 0

    def __post_init__(self) -> None:
        check_part_size(self, self.part_size)
        if self.node_weight not in ("cells", "edges"):
            raise InputError(f"Metis needs a node_weight of 'cells' or 'edges', not {self.node_weight!r}.")
        if self.edge_weight not in ("unit", "proximity"):
            raise InputError(f"Metis needs an edge_weight of 'unit' or 'proximity', not {self.edge_weight!r}.")

    @property
    def max_size(self) -> int:
        """Most cells that a part can have."""
        return size_bound(self.part_size)

    def __call__(self, graph: SliceGraph) -> Partition:
        """Parts of one slice; see `Partitioner`."""
        num_parts = count_parts(len(graph), self.part_size)
        if graph.near.nnz == 0:
            return Partition.from_membership(bisect(graph.pos, num_parts))
        membership = metis_partition(
            graph.near,
            num_parts,
            # A cell without neighbours costs something too.
            node_weights=None if self.node_weight == "cells" else 1 + np.diff(graph.near.indptr),
            edge_weights=None if self.edge_weight == "unit" else 1 / (1 + (graph.near.data / graph.spacing) ** 2),
            random_state=self.random_state,
        )
        return Partition.from_membership(split_large(graph.pos, membership, self.part_size, self.max_size))


def metis_partition(
    adjacency: sp.csr_matrix,
    num_parts: int,
    *,
    node_weights: ArrayLike | None = None,
    edge_weights: ArrayLike | None = None,
    random_state: int = 0,
) -> NDArray[np.int64]:
    """METIS on any graph: parts of about equal weight, of whose edges few are cut.

    Parameters
    ----------
    adjacency
        (N, N), directed or not, with or without loops, isolated nodes and explicit zeros (which
        are edges: values are not read). METIS, which is undefined on directed graphs,
        sees the graph joined with its reverse, where weights of the two directions add up.
    num_parts
        P.
    node_weights
        (N,) what a node counts for in the balance of parts, not negative; None for 1.
    edge_weights
        (E,) what cutting an edge costs, not negative, in the order of ``adjacency.indices``; None
        for 1. METIS takes positive whole numbers: others are scaled and rounded, and whatever
        is below a millionth of the largest weight counts as that.
    random_state
        Seed of METIS.

    Returns
    -------
    ndarray
        (N,) int64, 0 to P - 1. METIS may leave a part empty where nodes are few or weigh
        unlike, and keeps the balance only nearly: see `Metis` for parts with a bound.

    Raises
    ------
    InputError
        If ``num_parts`` is below 1, or weights are of another shape, negative or not finite.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from stgraph.partition.metis import metis_partition
    >>> path = sp.diags([[1.0] * 5], [1], format="csr")
    >>> membership = metis_partition(path, 2)
    >>> sorted([membership[:3].tolist(), membership[3:].tolist()])
    [[0, 0, 0], [1, 1, 1]]
    """
    num_nodes = adjacency.shape[0]
    if num_parts < 1:
        raise InputError(f"METIS needs at least 1 part, not {num_parts}.")
    nodes = None if node_weights is None else _whole(node_weights, num_nodes, "node", least=0)
    edges = None if edge_weights is None else _whole(edge_weights, adjacency.nnz, "edge", least=1)
    if num_parts == 1:
        return np.zeros(num_nodes, dtype=np.int64)
    if num_parts >= num_nodes:
        return np.arange(num_nodes, dtype=np.int64)
    graph = undirected(adjacency, edges)
    if len(graph.indices) == 0:
        return _even_shares(np.ones(num_nodes, dtype=np.int64) if nodes is None else nodes, num_parts)
    _, membership = pymetis.part_graph(
        num_parts,
        pymetis.CSRAdjacency(graph.indptr, graph.indices),
        vweights=nodes,
        eweights=graph.weights,
        # The C library's seeds 0 and 1 are the same.
        options=pymetis.Options(seed=random_state + 1),
    )
    return np.asarray(membership, dtype=np.int64)


def _whole(weights: ArrayLike, size: int, of: str, *, least: int) -> NDArray[np.int64] | None:
    """Weights as the whole numbers METIS counts in; None if all are the same."""
    given = np.asarray(weights)
    if given.shape != (size,):
        raise InputError(f"METIS needs one weight for each {of}, of shape ({size},), not {given.shape}.")
    if size and not (np.isfinite(given).all() and given.min() >= 0):
        raise InputError(f"The {of} weights of METIS must be finite and not negative.")
    if size == 0 or given.min() == given.max():
        return None
    if not np.issubdtype(given.dtype, np.integer) or given.max() > _FINEST:
        given = np.rint(given * (_FINEST / given.max()))
    return np.maximum(given.astype(np.int64), least)


def _even_shares(weights: NDArray[np.int64], num_parts: int) -> NDArray[np.int64]:
    """Consecutive nodes of about the same weight together."""
    end = np.cumsum(weights)
    share: NDArray[np.int64] = ((end - weights / 2) / end[-1] * num_parts).astype(np.int64)
    return share.clip(max=num_parts - 1)
