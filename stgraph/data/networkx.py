"""Slice graphs in networkx, and back."""

from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.stores import batching, counts, empty_like, split
from stgraph.errors import InputError

SCHEMA = "hetero_data"
"""Key of ``graph.graph`` with types, attributes and dtypes, which `from_networkx` needs."""


def to_networkx(data: HeteroData) -> nx.MultiDiGraph:
    """Convert a slice, a part or a batch for networkx.

    Every node and edge becomes Python objects, hundreds of bytes each: for slices of
    thousands of cells rather than of a million, and best with ``informs=False``.

    Parameters
    ----------
    data
        From `stgraph.data.convert.to_hetero_data`, or any `HeteroData`.

    Returns
    -------
    networkx.MultiDiGraph
        Nodes are named ``("cell", 0)``, ``("cell", 1)``, ..., ``("virtual", 0)``, ... The
        key of an edge is its relation and its number among the edges of its type:
        ``("near", 17)``. Attributes have the names they have in ``data``; a number for each
        node or edge is a Python number, a row of several a numpy array. Attributes of the
        graph are in ``graph.graph``, tensors as numpy arrays.

    Raises
    ------
    InputError
        If an attribute has a type that numpy does not know, such as bfloat16.

    See Also
    --------
    from_networkx : the inverse, without loss.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.data.networkx import to_networkx
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=50, n_genes=60)[0])
    >>> network = to_networkx(to_hetero_data(graph, informs=False))
    >>> network.graph["slice_id"], network.nodes["cell", 0]["pos"].shape, network.nodes["cell", 0]["owned"]
    ('synthetic_0', (2,), True)
    """
    number = counts(data)
    graph = nx.MultiDiGraph()
    schema: dict[str, Any] = {"graph": {}, "nodes": {}, "edges": {}, "batch": batching(data)}
    for key, value in data._global_store.items():
        graph.graph[key] = _array(value, key) if isinstance(value, Tensor) else value
        schema["graph"][key] = isinstance(value, Tensor)
    for kind in data.node_types:
        rows, whole = split(data[kind], number[kind])
        schema["nodes"][kind] = {"rows": _kinds(rows), "whole": whole, "count": number[kind]}
        values = _values(rows)
        graph.add_nodes_from(
            ((kind, i), {key: column[i] for key, column in values.items()}) for i in range(number[kind])
        )
    for edge_type in data.edge_types:
        source_kind, relation, target_kind = edge_type
        edge_index = data[edge_type].edge_index
        rows, whole = split(data[edge_type], edge_index.shape[1])
        schema["edges"][edge_type] = {"rows": _kinds(rows), "whole": whole, "count": edge_index.shape[1]}
        values = _values(rows)
        graph.add_edges_from(
            ((source_kind, s), (target_kind, t), (relation, i), {key: column[i] for key, column in values.items()})
            for i, (s, t) in enumerate(edge_index.T.tolist())
        )
    graph.graph[SCHEMA] = schema
    return graph


def from_networkx(graph: nx.MultiDiGraph) -> HeteroData:
    """The `HeteroData` of a graph that `to_networkx` made: its inverse, to the bit.

    Nodes and edges may have been removed in between, and values changed: nodes are
    numbered anew in the order in which they stand, edges keep their order. A batch stays
    one, unless something was removed: then it is a `HeteroData` that cannot be taken apart.

    Parameters
    ----------
    graph
        From `to_networkx`.

    Returns
    -------
    HeteroData
        On the CPU.

    Raises
    ------
    InputError
        If `to_networkx` did not make the graph, a node or an edge lacks an attribute or has
        one of another type or shape, or one was added under another kind of name.
    """
    if SCHEMA not in graph.graph:
        raise InputError(
            f"This graph was not made by to_networkx (graph.graph['{SCHEMA}'] is missing): "
            "for others use torch_geometric.utils.from_networkx."
        )
    schema = graph.graph[SCHEMA]
    nodes, edges_of = _nodes_by_kind(graph, schema), _edges_by_type(graph, schema)
    whole = all(len(nodes[kind]) == told["count"] for kind, told in schema["nodes"].items())
    whole &= all(len(edges_of[edge_type]) == told["count"] for edge_type, told in schema["edges"].items())
    data = empty_like(schema["batch"] if whole else None)
    for key, is_tensor in schema["graph"].items():
        data[key] = torch.tensor(graph.graph[key]) if is_tensor else graph.graph[key]
    place: dict[Any, int] = {}
    for kind, told in schema["nodes"].items():
        place.update({name: i for i, name in enumerate(nodes[kind])})
        _fill(data[kind], told, [graph.nodes[name] for name in nodes[kind]], kind)
        if not data[kind].keys() or "num_nodes" in data[kind]:
            data[kind].num_nodes = len(nodes[kind])
    for edge_type, edges in edges_of.items():
        edges.sort(key=lambda edge: edge[0])
        ends = [(place[source], place[target]) for _, source, target, _ in edges]
        data[edge_type].edge_index = torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        _fill(data[edge_type], schema["edges"][edge_type], [values for *_, values in edges], edge_type)
    return data


def _nodes_by_kind(graph: nx.MultiDiGraph, schema: dict[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {kind: [] for kind in schema["nodes"]}
    for name in graph.nodes:
        if not (isinstance(name, tuple) and len(name) == 2 and name[0] in found):
            raise InputError(f"The node {name!r} is not named as to_networkx does: ('{next(iter(found), 'cell')}', 0).")
        found[name[0]].append(name)
    return found


def _edges_by_type(graph: nx.MultiDiGraph, schema: dict[str, Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {edge_type: [] for edge_type in schema["edges"]}
    for source, target, key, values in graph.edges(keys=True, data=True):
        relation, number = key if isinstance(key, tuple) and len(key) == 2 else (None, None)
        if (source[0], relation, target[0]) not in found:
            raise InputError(
                f"The edge from {source} to {target} has the key {key!r}, not one as to_networkx gives: ('near', 17)."
            )
        found[source[0], relation, target[0]].append((number, source, target, values))
    return found


def _kinds(rows: dict[str, Tensor]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Type and shape of one row of each attribute, for types without nodes too."""
    return {key: (_array(value, key).dtype, tuple(value.shape[1:])) for key, value in rows.items()}


def _values(rows: dict[str, Tensor]) -> dict[str, Any]:
    return {key: value.tolist() if value.ndim == 1 else _array(value, key) for key, value in rows.items()}


def _array(tensor: Tensor, key: str) -> Any:
    try:
        return tensor.detach().cpu().numpy().copy()
    except TypeError as error:
        raise InputError(f"'{key}' is of type {tensor.dtype}, which numpy does not know: convert it first.") from error


def _fill(store: Any, told: dict[str, Any], each: list[dict[str, Any]], where: Any) -> None:
    for key, (dtype, shape) in told["rows"].items():
        if any(key not in values for values in each):
            raise InputError(f"Some of {where} have no '{key}', which the others have.")
        array = np.empty((len(each), *shape), dtype=dtype)
        for i, values in enumerate(each):
            value = np.asarray(values[key])
            fits = value.shape == shape and value.dtype.kind in "biufc"
            if fits:
                array[i] = value
                fits = dtype.kind in "fc" or np.array_equal(array[i], value)  # no fraction is cut off
            if not fits:
                raise InputError(
                    f"'{key}' of one of {where} is {values[key]!r}; it must be of type {dtype} and shape {shape}."
                )
        store[key] = torch.from_numpy(array)
    for key, value in told["whole"].items():
        store[key] = value
