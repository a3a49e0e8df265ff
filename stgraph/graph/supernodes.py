"""The virtual cells of a slice as a networkx graph."""

import networkx as nx
import numpy as np
import scipy.sparse as sp

from stgraph.errors import InputError
from stgraph.graph.merge_clusters import contract
from stgraph.graph.slice_graph import SliceGraph, VirtualCells


def supernode_graph(graph: SliceGraph) -> nx.Graph:
    """Virtual cells as nodes, and an edge where cells of two of them are neighbours.

    Parameters
    ----------
    graph
        A slice graph with V virtual cells. Where they have parents, each coarser level follows with
        nodes and edges of its own.

    Returns
    -------
    networkx.Graph
        Nodes are numbered 0 to V - 1, those of the next level from V on, and so on, with the attributes

        - ``x``, ``y``: mean position of the cells, in the unit of the slice;
        - ``num_cells``: number of cells;
        - ``level``: 0 for virtual cells, 1 for their parents, ...

        Edges of ``kind`` ``"near"`` lie within a level and have

        - ``weight``: how many pairs of neighbouring cells have one cell in each of the two;
        - ``distance``: between the mean positions, in the unit of the slice.

        Edges of ``kind`` ``"member_of"`` join a virtual cell with its parent and have a ``distance`` only.
        The graph has the attributes ``slice_id`` and ``unit``. All of them are plain numbers and texts, so
        that ``networkx.write_graphml`` can write them; for ``networkx.draw``, positions are
        ``{node: (a["x"], a["y"]) for node, a in g.nodes(data=True)}``.

    Raises
    ------
    InputError
        If the graph has no virtual cells.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.supernodes import supernode_graph
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0])
    >>> nodes = supernode_graph(graph)
    >>> nodes.number_of_nodes() == len(graph.virtual)
    True
    >>> sorted(nodes.nodes[0])
    ['level', 'num_cells', 'x', 'y']
    """
    if graph.virtual is None:
        raise InputError(f"{graph.slice_id}: the graph has no virtual cells; give build_graph a builder of them.")
    exported = nx.Graph(slice_id=graph.slice_id, unit=graph.unit)
    virtual: VirtualCells | None = graph.virtual
    weights = _neighboring_pairs(graph.near, graph.virtual)
    level, first = 0, 0
    while virtual is not None:
        _add_level(exported, virtual, weights, level, first)
        level, above = level + 1, first + len(virtual)
        if virtual.parent is not None:
            weights = contract(weights, virtual.parent.membership)
            step = np.linalg.norm(virtual.pos - virtual.parent.pos[virtual.parent.membership], axis=1)
            for child, (parent, distance) in enumerate(
                zip(virtual.parent.membership.tolist(), step.tolist(), strict=True)
            ):
                exported.add_edge(first + child, above + parent, kind="member_of", distance=distance)
        virtual, first = virtual.parent, above
    return exported


def _neighboring_pairs(near: sp.csr_matrix, virtual: VirtualCells) -> sp.csr_matrix:
    """(V, V) pairs of neighbours across; a pair counts once, whichever of the two has the other for a neighbour."""
    pattern = sp.csr_matrix((np.ones(near.nnz, dtype=np.int8), near.indices, near.indptr), shape=near.shape)
    return contract(pattern.maximum(pattern.T.tocsr()), virtual.membership)


def _add_level(exported: nx.Graph, virtual: VirtualCells, weights: sp.csr_matrix, level: int, first: int) -> None:
    columns = zip(virtual.pos.tolist(), virtual.num_cells.tolist(), strict=True)
    for node, ((x, y), num_cells) in enumerate(columns, start=first):
        exported.add_node(node, x=x, y=y, num_cells=num_cells, level=level)
    across = sp.triu(weights, k=1, format="coo")
    distance = np.linalg.norm(virtual.pos[across.row] - virtual.pos[across.col], axis=1)
    exported.add_edges_from(
        (first + a, first + b, {"kind": "near", "weight": int(weight), "distance": length})
        for a, b, weight, length in zip(
            across.row.tolist(), across.col.tolist(), across.data.tolist(), distance.tolist(), strict=True
        )
    )
