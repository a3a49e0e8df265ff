"""Virtual cells without some of their members."""

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.edge_types import level_name


def leave_out_(data: HeteroData, cells: Tensor) -> None:
    """Take some cells out of the mean features of the virtual cells they belong to, in place, on all levels.

    What a virtual cell then holds is the mean over its other members in the whole slice, whichever of them are in this
    part; zeros if it has no other. Positions and ``num_cells`` stay. The tensors in ``data`` are replaced, not written
    to.

    Parameters
    ----------
    data
        One graph or a batch of several, with features of cells as they are in the means. In a batch a cell is taken
        out of the virtual cells of its own part only.
    cells
        (N,) bool, whom to leave out.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.data.leaving_out import leave_out_
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> leave_out_(data, data["cell"].owned)
    >>> bool(data["virtual"].x.any())
    False
    """
    x = data["cell"].x
    gone, count = torch.where(cells[:, None], x, 0.0).double(), cells.double()
    level = 1
    while (name := level_name(level)) in data.node_types and data[name].num_nodes:
        member, virtual = data[level_name(level - 1), "member_of", name].edge_index
        store, size = data[name], data[name].num_nodes
        gone = gone.new_zeros(size, gone.shape[1]).index_add_(0, virtual, gone[member])
        count = count.new_zeros(size).index_add_(0, virtual, count[member])
        left = store.num_cells - count
        others = (store.x.double() * store.num_cells[:, None] - gone) / left.clamp(min=1)[:, None]
        # Those that lose nobody stay as they are, to the bit.
        store.x = torch.where((count > 0)[:, None], torch.where((left > 0)[:, None], others, 0.0).to(store.x), store.x)
        level += 1
