"""How far a slice reaches, for its parts."""

from collections.abc import Iterable

import numpy as np
import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph


class SliceBox(BaseTransform):  # type: ignore[misc]
    """Tell a part the bounding box of the cells of its slice, in ``box``.

    A part does not know how far its slice reaches; published SToFM weights want distances in hundredths of the
    diagonal of that box. To be used as ``transform`` of `stgraph.data.parts.PartDataset`, or called.

    Parameters
    ----------
    graphs
        The slices.

    Shapes
    ------
    box : (1, 4) float32, least x and y, then greatest x and y, counted from ``origin`` like all positions

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.box import SliceBox
    >>> from stgraph.data.convert import to_hetero_data
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> SliceBox([graph])(to_hetero_data(graph)).box.shape
    torch.Size([1, 4])
    """

    def __init__(self, graphs: Iterable[SliceGraph]) -> None:
        self.boxes = {graph.slice_id: _box(graph) for graph in graphs}

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the box.

        Raises
        ------
        InputError
            If it is a part of a slice that was not given.
        """
        if data.slice_id not in self.boxes:
            raise InputError(f"SliceBox was not given the slice {data.slice_id!r}: it knows {sorted(self.boxes)}.")
        data.box = self.boxes[data.slice_id].clone()
        return data


def _box(graph: SliceGraph) -> torch.Tensor:
    corners = np.concatenate([graph.pos.min(axis=0) - graph.centre, graph.pos.max(axis=0) - graph.centre])
    return torch.tensor(corners[None], dtype=torch.float32)
