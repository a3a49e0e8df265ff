"""Context cells around a part."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stgraph._compiled import compiled
from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.cell_lookup import find_slot, make_table


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

    Raises
    ------
    InputError
        As `halo`.

    Examples
    --------
    >>> import numpy as np, stgraph
    >>> from stgraph.partition.halo import part_with_halo
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> part = part_with_halo(graph, np.array([0]), 1)
    >>> len(part) == 1 + len(graph.near[0].indices), part.cells[part.owned].tolist()
    (True, [0])
    """
    cells, context = _reach(graph, cells, num_hops)
    together = np.concatenate([cells, context])
    order = np.argsort(together, kind="stable")
    return Part(cells=together[order], owned=order < len(cells))


def halo(graph: SliceGraph, cells: NDArray[np.int64], num_hops: int) -> NDArray[np.int64]:
    """Cells within ``num_hops`` edges of a part that are not of it.

    Edges are followed from a cell to those it sees (row i of ``near`` lists what cell i sees). In a
    directed graph, so, a part with as many hops as a model has layers holds all
    that the states of its cells depend on, and not the cells that only look at it.

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

    Raises
    ------
    InputError
        If a cell is none of the graph's, ``cells`` is a mask, or ``num_hops`` is negative.

    Examples
    --------
    >>> import numpy as np, stgraph
    >>> from stgraph.partition.halo import halo
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> bool((halo(graph, np.array([0]), 1) == graph.near[0].indices).all())
    True
    """
    return _reach(graph, cells, num_hops)[1]


def _reach(graph: SliceGraph, cells: NDArray[np.int64], num_hops: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells of a part and of its halo, each in increasing order and once."""
    cells = np.asarray(cells)
    if cells.size and not np.issubdtype(cells.dtype, np.integer):
        raise InputError(f"A part is given by the rows of its cells, not by values of type {cells.dtype}.")
    cells = np.unique(cells.astype(np.int64))
    if num_hops < 0:
        raise InputError(f"A halo has 0 hops or more, not {num_hops}.")
    if len(cells) and not (cells[0] >= 0 and cells[-1] < len(graph)):
        raise InputError(f"A part of a slice of {len(graph)} cells has cells 0 to {len(graph) - 1}, not {cells}.")
    reached = cells
    frontier = 0
    for _ in range(num_hops):
        wider = _hop(graph.near.indptr, graph.near.indices, reached, frontier)
        frontier, reached = len(reached), wider
    return cells, np.sort(reached[len(cells) :])


@compiled
def _hop(indptr, indices, reached, frontier):  # type: ignore[no-untyped-def]
    """Append the cells seen from those at ``frontier`` and after, each once."""
    bound = len(reached)
    for cell in reached[frontier:]:
        bound += indptr[cell + 1] - indptr[cell]
    keys, _ = make_table(bound)
    wider = np.empty(bound, dtype=np.int64)
    wider[: len(reached)] = reached
    for cell in reached:
        keys[find_slot(keys, cell)] = cell
    size = len(reached)
    for cell in reached[frontier:]:
        for edge in range(indptr[cell], indptr[cell + 1]):
            slot = find_slot(keys, indices[edge])
            if keys[slot] < 0:
                keys[slot] = indices[edge]
                wider[size] = indices[edge]
                size += 1
    return wider[:size].copy()
