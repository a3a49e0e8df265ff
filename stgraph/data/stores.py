"""What of a `HeteroData` belongs to its nodes and edges one by one, and what to them all."""

from typing import Any

from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from stgraph.errors import InputError


def split(store: Any, count: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Attributes of the nodes, or edges, of one type.

    Parameters
    ----------
    store
        Of one type: ``data["cell"]``.
    count
        How many nodes or edges it has.

    Returns
    -------
    rows : dict
        Tensors with ``count`` rows, one for each.
    whole : dict
        Everything else, but for ``edge_index``.
    """
    given = {key: value for key, value in store.items() if key != "edge_index"}
    rows = {k: v for k, v in given.items() if isinstance(v, Tensor) and v.ndim >= 1 and len(v) == count}
    return rows, {key: value for key, value in given.items() if key not in rows}


def counts(data: HeteroData) -> dict[str, int]:
    """Number of nodes of each type.

    Raises
    ------
    InputError
        If it is not known, or edges have no ``edge_index``.
    """
    if not isinstance(data, HeteroData):
        raise InputError(f"This takes a HeteroData, such as to_hetero_data gives, not {type(data).__name__}.")
    for edge_type in data.edge_types:
        if "edge_index" not in data[edge_type]:
            raise InputError(f"The edges {edge_type} have no edge_index, and no other form is read here.")
    found = {}
    for kind in data.node_types:
        tensors = [v for k, v in data[kind].items() if isinstance(v, Tensor) and v.ndim >= 1]
        if not tensors and "num_nodes" not in data[kind]:
            raise InputError(f"It is not known how many '{kind}' nodes there are: set data['{kind}'].num_nodes.")
        found[kind] = int(data[kind].num_nodes)
    return found


def batching(data: HeteroData) -> dict[str, Any] | None:
    """What PyG needs to take a batch apart, for `empty_like`; None if ``data`` is no batch."""
    if not isinstance(data, Batch):
        return None
    return {"_num_graphs": data.num_graphs, "_slice_dict": data._slice_dict, "_inc_dict": data._inc_dict}


def empty_like(kept: dict[str, Any] | None) -> HeteroData:
    """A `HeteroData` to be filled: a batch if `batching` found one."""
    if kept is None:
        return HeteroData()
    batch = Batch(_base_cls=HeteroData)
    for key, value in kept.items():
        setattr(batch, key, value)
    return batch
