"""A batch of slice graphs as the one `EdgeGraph` that attention runs on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.convert import NEAR, TO_CELL, VIRTUAL_NEAR
from stgraph.nn.edge_attention import EdgeGraph

EDGE_TYPES = ("cell-cell", "virtual-cell", "virtual-virtual", "self")
"""Kinds of edges that attention tells apart, by number."""


@dataclass(frozen=True)
class CellGraph:
    """Cells, then virtual cells, then one query for each cell.

    A query stands where its cell stands and sees what the cell sees, except the cell
    itself; nobody sees the query. It is how a cell is described by its surroundings.

    Attributes
    ----------
    edges
        The graph of attention.
    num_cells, num_virtual
        N and V.
    near
        Position among the edges of each ``(cell, near, cell)`` edge of the batch.
    informs
        The same of each ``(virtual, informs, cell)`` edge.
    distance, edge_type
        Distance and kind of the edges that are not alike: a query's edges are its
        cell's over again.
    same_as
        (E,) for each edge of the graph, where among these it stands.
    """

    edges: EdgeGraph
    num_cells: int
    num_virtual: int
    near: Tensor
    informs: Tensor
    distance: Tensor
    edge_type: Tensor
    same_as: Tensor


def cell_graph(data: HeteroData) -> CellGraph:
    """Join the edge types of a batch.

    A cell attends to its neighbours, to all virtual cells of its slice and to itself; its
    query to the same, but not to the cell; a virtual cell to the virtual cells of its
    slice and to itself. Virtual cells do not
    attend to cells: they are means over the whole slice already, and so their states
    are the same in every part of it.

    Parameters
    ----------
    data
        A batch of `HeteroData` from `stgraph.data`.

    Returns
    -------
    CellGraph
        With distances in multiples of the spacing of each slice.
    """
    n, v = data["cell"].num_nodes, data["virtual"].num_nodes
    device = data["cell"].x.device
    spacing = _spacing(data, "cell")
    virtual_spacing = _spacing(data, "virtual")

    near, near_length = data[NEAR].edge_index, data[NEAR].edge_attr[:, 0]
    inform, inform_length = data[TO_CELL].edge_index, data[TO_CELL].edge_attr[:, 0]
    between, between_length = data[VIRTUAL_NEAR].edge_index, data[VIRTUAL_NEAR].edge_attr[:, 0]
    itself = torch.arange(n + v, device=device)

    # (target, source, distance in spacings)
    blocks = [
        (near[1], near[0], near_length / spacing[near[1]]),
        (inform[1], inform[0] + n, inform_length / spacing[inform[1]]),
        (between[1] + n, between[0] + n, between_length / virtual_spacing[between[1]]),
        (itself, itself, torch.zeros(n + v, device=device)),
    ]
    blocks += [(target + n + v, source, length) for target, source, length in blocks[:2]]
    kinds = [0, 1, 2, 3, 0, 1]
    row = torch.cat([target for target, _, _ in blocks])
    col = torch.cat([source for _, source, _ in blocks])
    distance = torch.cat([length for _, _, length in blocks])
    edge_type = torch.cat([torch.full_like(target, kind) for (target, _, _), kind in zip(blocks, kinds, strict=True)])
    edges, order = EdgeGraph.from_edges(2 * n + v, row, col, distance, edge_type)
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order), device=device)
    distinct = near.shape[1] + inform.shape[1] + between.shape[1] + len(itself)
    # The blocks of the queries come last: they repeat the first two, near and inform.
    repeated = torch.cat([torch.arange(distinct, device=device), torch.arange(len(row) - distinct, device=device)])
    return CellGraph(
        edges=edges,
        num_cells=n,
        num_virtual=v,
        near=position[: near.shape[1]],
        informs=position[near.shape[1] : near.shape[1] + inform.shape[1]],
        distance=distance[:distinct],
        edge_type=edge_type[:distinct],
        same_as=repeated[order],
    )


def _spacing(data: HeteroData, node_type: str) -> Tensor:
    batch = data[node_type].get("batch")
    spacing: Tensor = data.spacing
    return spacing.expand(data[node_type].num_nodes) if batch is None else spacing[batch]
