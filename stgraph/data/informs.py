"""All pairs of cells and virtual cells of a slice, as edges."""

import torch
from torch_geometric.data import HeteroData

from stgraph.data.edge_types import TO_CELL, TO_VIRTUAL
from stgraph.data.lengths import distance


def connect_informs_(data: HeteroData) -> None:
    """Add the ``informs`` edges of both directions with their lengths, in place.

    Edges are ordered by cell and then by virtual cell. In a batch there are none between
    the cells of one graph and the virtual cells of another.

    Parameters
    ----------
    data
        n cells and V virtual cells with ``pos``, of one slice or a batch of several.
    """
    pos, virtual_pos = data["cell"].pos, data["virtual"].pos
    n, v = len(pos), len(virtual_pos)
    device = pos.device
    if "batch" not in data["cell"]:
        cell = torch.arange(n, device=device).repeat_interleave(v)
        virtual = torch.arange(v, device=device).repeat(n)
        length = distance(pos[:, None], virtual_pos).ravel()
    else:
        graph, first = data["cell"].batch, data["virtual"].ptr
        seen = first.diff()[graph]
        cell = torch.arange(n, device=device).repeat_interleave(seen)
        begin = (first[graph] - (seen.cumsum(0) - seen)).repeat_interleave(seen)
        virtual = begin + torch.arange(len(cell), device=device)
        length = distance(pos[cell], virtual_pos[virtual])
    for edge_type, source, target in ((TO_CELL, virtual, cell), (TO_VIRTUAL, cell, virtual)):
        data[edge_type].edge_index = torch.stack([source, target])
        data[edge_type].edge_attr = length[:, None]
