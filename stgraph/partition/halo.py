"""Context cells around a part."""

import numpy as np
from numpy.typing import NDArray

from stgraph.graph.slice_graph import SliceGraph


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
    reached = np.zeros(len(graph), dtype=bool)
    reached[cells] = True
    frontier = cells
    for _ in range(num_hops):
        near = graph.near[frontier].indices
        frontier = np.unique(near[~reached[near]])
        reached[frontier] = True
    reached[cells] = False
    return np.flatnonzero(reached)
