"""Parts of slices as a data set of `HeteroData`."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torch_geometric.data import HeteroData

from stgraph.data.convert import to_hetero_data
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partitioner
from stgraph.partition.halo import halo


def part_data(data: HeteroData, owned: NDArray[np.int64], context: NDArray[np.int64] | None = None) -> HeteroData:
    """One part of a slice, with all virtual cells of the slice.

    Parameters
    ----------
    data
        The whole slice, from `to_hetero_data`.
    owned
        Cells of the part.
    context
        Cells of its halo: visible, but counted by no loss.

    Returns
    -------
    HeteroData
        The subgraph on these cells, in increasing order, with ``cell.owned`` and with
        ``cell.index``, (n,) int64, the cells' rows in the slice.
    """
    context = np.zeros(0, dtype=np.int64) if context is None else context
    cells = np.concatenate([owned, context])
    order = np.argsort(cells, kind="stable")
    index = torch.from_numpy(cells[order])
    part: HeteroData = data.subgraph({"cell": index})
    part["cell"].owned = torch.from_numpy(np.arange(len(cells))[order] < len(owned))
    part["cell"].index = index
    return part


class PartDataset(Dataset[HeteroData]):
    """The parts of many slices.

    Parameters
    ----------
    graphs
        Slice graphs with features of the same width.
    partitioner
        Cuts each of them.
    num_hops
        Hops of context around each part.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.parts import PartDataset
    >>> from stgraph.partition.metis import Metis
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> len(PartDataset([graph], Metis(part_size=100)))
    4
    """

    def __init__(self, graphs: Iterable[SliceGraph], partitioner: Partitioner, *, num_hops: int = 1) -> None:
        self.parts: list[HeteroData] = []
        self.slice_of: list[str] = []
        for graph in graphs:
            data = to_hetero_data(graph)
            partition = partitioner(graph)
            for part in range(partition.num_parts):
                owned = partition.cells(part)
                self.parts.append(part_data(data, owned, halo(graph, owned, num_hops)))
                self.slice_of.append(graph.slice_id)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> HeteroData:
        return self.parts[index]
