"""How long the edges of a `HeteroData` are: the one place where they are measured."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.edge_types import EdgeType


def distance(source: Tensor, target: Tensor) -> Tensor:
    """Euclidean distance of pairs of points, the same bits however many there are.

    Parameters
    ----------
    source, target
        (E, 2) float32 positions.

    Returns
    -------
    Tensor
        (E,) float32.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.lengths import distance
    >>> distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([5.])
    """
    # Products, sum and root are each rounded as IEEE says; a norm may be summed otherwise in a longer tensor.
    x, y = (source - target).unbind(-1)
    return (x * x + y * y).sqrt_()


def measured(data: HeteroData, edge_type: EdgeType) -> Tensor:
    """Lengths of the edges of one type, from the positions of the nodes.

    Parameters
    ----------
    data
        Nodes with ``pos`` (n, 2).
    edge_type
        Whose edges.

    Returns
    -------
    Tensor
        (E, 1), as ``edge_attr`` holds them.
    """
    source, target = data[edge_type].edge_index
    return distance(data[edge_type[0]].pos[source], data[edge_type[2]].pos[target])[:, None]


def measure_(data: HeteroData, edge_types: Iterable[EdgeType]) -> None:
    """Set ``edge_attr`` of some edge types to the lengths the positions give, in place.

    The tensors in ``data`` are replaced, not written to: a shallow copy of the data it
    came from stays as it is.

    Parameters
    ----------
    data
        Changed. Of ``edge_types`` it may lack some.
    edge_types
        What to measure.
    """
    for edge_type in edge_types:
        if edge_type in data.edge_types:
            data[edge_type].edge_attr = measured(data, edge_type)


def spacing_of(data: HeteroData, node_type: str = "cell") -> Tensor:
    """Spacing of the slice of each node.

    Parameters
    ----------
    data
        One graph or a batch of several, with ``spacing`` (B,).
    node_type
        Whose nodes.

    Returns
    -------
    Tensor
        (n,) in the unit of each slice.
    """
    batch = data[node_type].get("batch")
    spacing: Tensor = data.spacing
    return spacing.expand(data[node_type].num_nodes) if batch is None else spacing[batch]


def mean_spacing_of(data: HeteroData) -> Tensor:
    """Mean spacing of the cells of the part of each cell: the root of the area of its bounding box for each cell.

    SToFM measures its jitter so. Where cells lie at random it is about twice the `spacing_of` the slice, the median
    distance to the nearest neighbour; on an array the two are about the same. A part that is no rectangle counts as
    the rectangle around it.

    Parameters
    ----------
    data
        One part or a batch of several.

    Returns
    -------
    Tensor
        (N,) in the unit of each slice.

    Examples
    --------
    >>> import torch
    >>> from torch_geometric.data import HeteroData
    >>> from stgraph.data.lengths import mean_spacing_of
    >>> data = HeteroData({"cell": {"pos": torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])}})
    >>> mean_spacing_of(data)
    tensor([2., 2., 2., 2.])
    """
    pos: Tensor = data["cell"].pos
    ptr = data["cell"].get("ptr")
    size = [len(pos)] if ptr is None else ptr.diff().tolist()
    parts = torch.split(pos, size)
    extents = [part.amax(dim=0) - part.amin(dim=0) if len(part) else pos.new_zeros(2) for part in parts]
    spacing = [(extent.prod() / max(n, 1)).sqrt().expand(n) for extent, n in zip(extents, size, strict=True)]
    return torch.cat(spacing)
