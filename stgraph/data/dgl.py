"""Slice graphs in DGL, and back; DGL is an optional extra."""

from typing import TYPE_CHECKING, Any

import torch
from torch_geometric.data import HeteroData

from stgraph._dgl import import_dgl
from stgraph.data.stores import batching, counts, empty_like, split
from stgraph.errors import InputError

if TYPE_CHECKING:
    from dgl import DGLGraph

KEPT = "stgraph"
"""Attribute of the `DGLGraph` with what DGL has no place for: dict, see `to_dgl`."""


def to_dgl(data: HeteroData) -> "DGLGraph":
    """Convert a slice, a part or a batch for DGL.

    Tensors are shared with ``data``, not copied.

    Parameters
    ----------
    data
        From `stgraph.data.convert.to_hetero_data`, or any `HeteroData`.

    Returns
    -------
    DGLGraph
        Nodes, edges in the same order, and their attributes under the same names:
        ``g.nodes["cell"].data["x"]``, ``g.edges["near"].data["edge_attr"]`` (by all three
        names of the type where ``near`` is not enough). What belongs to the graph or to a
        type as a whole (``slice_id``, ``spacing``, ...) is in ``g.stgraph``: a dict of
        ``"graph"`` (name to value), ``"stores"`` (type to such a dict), the order of
        ``"node_types"`` and ``"edge_types"``, and how a ``"batch"`` falls apart. DGL's own
        functions do not hand it on to the graphs they make, nor to files.

    Raises
    ------
    InputError
        If DGL is missing, or a node type has no edge type, for which DGL has no form.

    See Also
    --------
    from_dgl : the inverse, without loss.
    """
    dgl = import_dgl()
    number = counts(data)
    alone = set(number).difference(*((source, target) for source, _, target in data.edge_types))
    if alone:
        raise InputError(f"DGL has no node types without edge types, such as {sorted(alone)}: leave these out.")
    kept: dict[str, Any] = {
        "graph": dict(data._global_store.items()),
        "batch": batching(data),
        "node_types": list(data.node_types),
        "edge_types": list(data.edge_types),
        "stores": {},
    }
    graph = dgl.heterograph({t: tuple(data[t].edge_index) for t in data.edge_types}, num_nodes_dict=number)
    for kind in data.node_types:
        rows, kept["stores"][kind] = split(data[kind], number[kind])
        graph.nodes[kind].data.update(rows)
    for edge_type in data.edge_types:
        rows, kept["stores"][edge_type] = split(data[edge_type], data[edge_type].edge_index.shape[1])
        graph.edges[edge_type].data.update(rows)
    setattr(graph, KEPT, kept)
    return graph


def from_dgl(graph: "DGLGraph") -> HeteroData:
    """The `HeteroData` of a graph of DGL: the inverse of `to_dgl`, to the bit.

    Parameters
    ----------
    graph
        Any graph of DGL. One that `to_dgl` did not make lacks what belongs to the graph
        as a whole, such as ``slice_id``.

    Returns
    -------
    HeteroData
        The same nodes, edges and attributes; tensors are shared with ``graph``.

    Raises
    ------
    InputError
        If DGL is missing.
    """
    import_dgl()
    kept = getattr(graph, KEPT, {})
    data = empty_like(kept.get("batch"))
    for key, value in kept.get("graph", {}).items():
        data[key] = value
    stores = kept.get("stores", {})
    for kind in kept.get("node_types", graph.ntypes):
        for key, value in {**graph.nodes[kind].data, **stores.get(kind, {})}.items():
            data[kind][key] = value
        if not data[kind].keys():
            data[kind].num_nodes = graph.num_nodes(kind)
    for edge_type in kept.get("edge_types", graph.canonical_etypes):
        source, target = graph.edges(etype=edge_type, order="eid")
        data[edge_type].edge_index = torch.stack([source, target])
        for key, value in {**graph.edges[edge_type].data, **stores.get(edge_type, {})}.items():
            data[edge_type][key] = value
    return data
