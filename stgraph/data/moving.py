"""Where cells of a part may be moved to."""

from itertools import pairwise

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.edge_types import NEAR

_DRAWS = 24
_HALVINGS = 16


def moves_within(data: HeteroData, moved: Tensor, scale: Tensor, moves: Tensor, generator: torch.Generator) -> Tensor:
    """Moves of cells that end among the cells of their part, drawn anew where they do not.

    A move ends there if, of the cells that stay, the nearest one to it is owned, and no further off than the longest
    edge between cells of the part. Elsewhere, beyond the halo or the tissue, a cell would have neighbours as far off as
    no other cell has.

    Parameters
    ----------
    data
        One part or a batch of several, before the move: ``cell.pos``, ``cell.owned`` and edges with their lengths.
    moved
        (N,) bool, which cells are moved.
    scale
        (N,) standard deviation of moves along each axis, in the unit of the slice.
    moves
        (N, 2) moves as they were drawn, in the unit of the slice.
    generator
        Draws others, on the CPU. After 24 draws in vain they are made shorter and shorter.

    Returns
    -------
    Tensor
        (N, 2) on the device of ``moves``: 0 for cells that are not moved, as given where that would do.

    Examples
    --------
    >>> import torch, stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.data.moving import moves_within
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> moved, far = torch.arange(200) < 20, torch.full((200, 2), 1e6)
    >>> moves = moves_within(data, moved, torch.full((200,), 30.0), far, torch.Generator())
    >>> bool(moves.abs().max() < 300)
    True
    """
    cell = data["cell"]
    pos, owned = cell.pos.detach().cpu().double().numpy(), cell.owned.cpu().numpy()
    chosen, size = moved.cpu().numpy(), scale.detach().cpu().double().numpy()
    out = np.where(chosen[:, None], moves.detach().cpu().double().numpy(), 0.0)
    bounds = cell.ptr.tolist() if "ptr" in cell else [0, len(pos)]
    target, length = data[NEAR].edge_index[1].cpu().numpy(), data[NEAR].edge_attr[:, 0].detach().cpu().numpy()
    for begin, end in pairwise(bounds):
        here = slice(begin, end)
        stays = np.flatnonzero(~chosen[here]) + begin
        inside = (target >= begin) & (target < end)
        if not inside.any() or not owned[stays].any():
            continue
        reach, tree = float(length[inside].max()), cKDTree(pos[stays])
        astray = np.flatnonzero(chosen[here]) + begin
        for draw in range(_DRAWS + _HALVINGS):
            gap, nearest = tree.query(pos[astray] + out[astray])
            astray = astray[(gap > reach) | ~owned[stays[nearest]]]
            if len(astray) == 0:
                break
            shorter = 0.5 ** max(0, draw + 1 - _DRAWS)
            drawn = torch.randn(len(astray), 2, generator=generator).double().numpy()
            out[astray] = drawn * (size[astray] * shorter)[:, None]
    return torch.from_numpy(out).to(moves)
