"""A `SliceGraph` as PyG `HeteroData`."""

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.graph.slice_graph import SliceGraph, VirtualCells

NEAR = ("cell", "near", "cell")
"""Cells that are neighbours."""

MEMBER_OF = ("cell", "member_of", "virtual")
"""A cell and the virtual cell it belongs to."""

HAS_MEMBER = ("virtual", "has_member", "cell")
"""The reverse of `MEMBER_OF`."""

TO_CELL = ("virtual", "informs", "cell")
"""Every virtual cell is visible to every cell, at its true distance."""

TO_VIRTUAL = ("cell", "informs", "virtual")
"""The reverse of `TO_CELL`."""

VIRTUAL_NEAR = ("virtual", "near", "virtual")
"""All pairs of virtual cells."""


def to_hetero_data(graph: SliceGraph) -> HeteroData:
    """Convert a slice graph for PyG.

    Parameters
    ----------
    graph
        The graph of one slice.

    Returns
    -------
    HeteroData
        ========================================  ==================================================
        ``cell.x``                                (N, C) float32 features
        ``cell.pos``                              (N, 2) float32, relative to the centre of the slice
        ``cell.owned``                            (N,) bool, all true: which cells a loss may count
        ``virtual.x``, ``.pos``                   (V, C), (V, 2) means over the members
        ``virtual.num_cells``                     (V,) int64
        ``spacing``                               (1,) float32, median spacing of the slice
        every edge type: ``edge_index``           (2, E) int64, source above target
        every edge type: ``edge_attr``            (E, 1) float32, distance in the unit of the slice
        ========================================  ==================================================

        Edge types: ``(cell, near, cell)``, ``(cell, member_of, virtual)`` and its reverse
        ``has_member``, ``(virtual, informs, cell)``, ``(cell, informs, virtual)``,
        ``(virtual, near, virtual)``. A graph without virtual cells has V = 0.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> data = to_hetero_data(graph)
    >>> data["cell"].num_nodes
    200
    """
    n, channels = graph.x.shape
    virtual = graph.virtual or _no_virtual(n, channels)
    v = len(virtual)
    # float32 keeps seven digits: positions far from the origin would lose the spacing.
    centre = graph.pos.mean(axis=0)
    cell_pos, virtual_pos = graph.pos - centre, virtual.pos - centre

    data = HeteroData()
    data["cell"].x = torch.from_numpy(graph.x)
    data["cell"].pos = torch.from_numpy(cell_pos.astype(np.float32))
    data["cell"].owned = torch.ones(n, dtype=torch.bool)
    data["virtual"].x = torch.from_numpy(virtual.x)
    data["virtual"].pos = torch.from_numpy(virtual_pos.astype(np.float32))
    data["virtual"].num_cells = torch.from_numpy(virtual.num_cells)
    data.spacing = torch.tensor([graph.spacing], dtype=torch.float32)

    target = torch.from_numpy(np.repeat(np.arange(n), np.diff(graph.near.indptr)))
    source = torch.from_numpy(graph.near.indices.astype(np.int64))
    data[NEAR].edge_index = torch.stack([source, target])
    data[NEAR].edge_attr = torch.from_numpy(graph.near.data.astype(np.float32))[:, None]

    cells, virtuals = torch.arange(n), torch.arange(v)
    member = torch.from_numpy(virtual.membership)
    if v == 0:
        cells, member = cells[:0], member[:0]
    own = torch.from_numpy(np.linalg.norm(cell_pos[: len(cells)] - virtual_pos[member], axis=1))
    _connect(data, MEMBER_OF, cells, member, own)
    _connect(data, HAS_MEMBER, member, cells, own)

    all_cells, all_virtual = torch.arange(n).repeat_interleave(v), virtuals.repeat(n)
    far = torch.from_numpy(np.linalg.norm(cell_pos[:, None] - virtual_pos[None], axis=2).ravel())
    _connect(data, TO_CELL, all_virtual, all_cells, far)
    _connect(data, TO_VIRTUAL, all_cells, all_virtual, far)

    pair = torch.cartesian_prod(virtuals, virtuals).reshape(-1, 2)
    pair = pair[pair[:, 0] != pair[:, 1]]
    apart = np.linalg.norm(virtual_pos[pair[:, 0]] - virtual_pos[pair[:, 1]], axis=1)
    _connect(data, VIRTUAL_NEAR, pair[:, 0], pair[:, 1], torch.from_numpy(apart))
    return data


def _connect(
    data: HeteroData, edge_type: tuple[str, str, str], source: Tensor, target: Tensor, distance: Tensor
) -> None:
    data[edge_type].edge_index = torch.stack([source, target])
    data[edge_type].edge_attr = distance.float()[:, None]


def _no_virtual(n: int, channels: int) -> VirtualCells:
    return VirtualCells(
        membership=np.zeros(n, dtype=np.int64),
        x=np.zeros((0, channels), dtype=np.float32),
        pos=np.zeros((0, 2)),
        num_cells=np.zeros(0, dtype=np.int64),
    )
