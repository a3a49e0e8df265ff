"""Context cells around a part."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stgraph.graph.slice_graph import SliceGraph


@dataclass(frozen=True)
class Part:
    """Some cells of a slice, with their surroundings.

    Attributes
    ----------
    cells
        (n,) int64, rows of the slice, in increasing order.
    owned
        (n,) bool, true for the cells of the part itself, false for its halo.
    """

    cells: NDArray[np.int64]
    owned: NDArray[np.bool_]

    @property
    def context(self) -> NDArray[np.bool_]:
        """(n,) bool, true for the cells of the halo: visible, but counted by no loss."""
        return ~self.owned

    def __len__(self) -> int:
        return len(self.cells)


def part_with_halo(graph: SliceGraph, cells: NDArray[np.int64], num_hops: int) -> Part:
    """Join the cells of a part and those within ``num_hops`` edges of them.

    Parameters
    ----------
    graph
        The slice graph.
    cells
        Cells of the part.
    num_hops
        Hops to reach out; 0 gives no halo.

    Returns
    -------
    Part
        Both, with masks.

    Examples
    --------
    >>> import numpy as np, stgraph
    >>> from stgraph.partition.halo import part_with_halo
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> part = part_with_halo(graph, np.array([0]), 1)
    >>> len(part) == 1 + len(graph.near[0].indices), part.cells[part.owned].tolist()
    (True, [0])
    """
    context = halo(graph, cells, num_hops)
    together = np.concatenate([cells, context])
    order = np.argsort(together, kind="stable")
    return Part(cells=together[order], owned=order < len(cells))


def halo(graph: SliceGraph, cells: NDArray[np.int64], num_hops: int) -> NDArray[np.int64]:
    """Cells within ``num_hops`` edges of a part that are not of it.

    Parameters
    ----------
    graph
        The slice graph.
    cells
        Cells of the part.
    num_hops
        Hops to reach out; 0 gives no halo.

    Returns
    -------
    ndarray
        Context cells, in increasing order.

    Examples
    --------
    >>> import numpy as np, stgraph
    >>> from stgraph.partition.halo import halo
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> bool((halo(graph, np.array([0]), 1) == graph.near[0].indices).all())
    True
    """
    indptr, indices = graph.near.indptr, graph.near.indices
    reached = frontier = np.unique(cells)
    for _ in range(num_hops):
        # Not graph.near[frontier]: that would copy the lengths too. Nothing here costs more than the part.
        near = _rows(indptr, indices, frontier)
        frontier = np.setdiff1d(near, reached)
        reached = np.union1d(reached, frontier)
    return np.setdiff1d(reached, cells).astype(np.int64)


def _rows(indptr: NDArray[np.integer], indices: NDArray[np.integer], rows: NDArray[np.int64]) -> NDArray[np.integer]:
    """Column indices of some rows of a CSR matrix, one row after the other."""
    begin = indptr[rows].astype(np.int64)
    size = indptr[rows + 1] - begin
    first = np.cumsum(size) - size
    return indices[np.repeat(begin - first, size) + np.arange(size.sum())]
