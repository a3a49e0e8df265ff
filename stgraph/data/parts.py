"""Parts of slices as `HeteroData`, made from the arrays of the slice graph when they are asked for."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import HeteroData

from stgraph.data.edge_types import NEAR, VIRTUAL_NEAR, EdgeType, level_name
from stgraph.data.informs import connect_informs_
from stgraph.data.lengths import distance
from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph, VirtualCells
from stgraph.partition.base import Partitioner
from stgraph.partition.halo import Part, part_with_halo
from stgraph.partition.subgraph import induced


def part_data(graph: SliceGraph, part: Part, *, informs: bool = True) -> HeteroData:
    """One part of a slice, with all virtual cells of the slice.

    Its cost depends on the part and on V, not on the slice. Arrays of ``graph`` may be
    memory-mapped; they are copied, and never written to.

    Parameters
    ----------
    graph
        The slice.
    part
        Its cells and those of its halo.
    informs
        Whether to make the n x V edges between cells and virtual cells.

    Returns
    -------
    HeteroData
        As `stgraph.data.convert.to_hetero_data` gives it, on n cells, to the bit. Beside
        ``cell.owned`` (n,), false for the halo, it has ``cell.index``, (n,) int64, the
        cells' rows in the slice.

    Examples
    --------
    >>> import numpy as np, stgraph
    >>> from stgraph.data.parts import part_data
    >>> from stgraph.partition.halo import part_with_halo
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0])
    >>> data = part_data(graph, part_with_halo(graph, np.arange(50), num_hops=1))
    >>> int(data["cell"].owned.sum()), data["virtual"].num_nodes == len(graph.virtual)
    (50, True)
    """
    data = HeteroData()
    data.slice_id = graph.slice_id
    data.unit = graph.unit
    data.origin = torch.tensor(graph.centre[None], dtype=torch.float64)
    data.spacing = torch.tensor([graph.spacing], dtype=torch.float32)

    index = np.array(part.cells, dtype=np.int64)
    cell = data["cell"]
    cell.x = _taken(graph.x, index)
    cell.pos = _relative(graph.pos[index], graph)
    cell.owned = torch.from_numpy(np.array(part.owned, dtype=bool))
    cell.index = torch.from_numpy(index)

    near = induced(graph.near, index)
    source, target = near.indices.astype(np.int64), np.repeat(np.arange(len(index)), np.diff(near.indptr))
    _connect(data, NEAR, torch.from_numpy(source), torch.from_numpy(target), torch.from_numpy(near.data).float())

    virtual = graph.virtual or _no_virtual(graph)
    _add_level(
        data,
        1,
        virtual,
        _taken(virtual.membership, index).long() if len(virtual) else torch.zeros(0, dtype=torch.int64),
        graph,
    )
    if informs:
        connect_informs_(data)
    _connect_virtual(data)
    return data


class PartDataset(Dataset[HeteroData]):
    """The parts of many slices.

    A part is made when it is asked for, so that what is kept grows with the slices and
    not with their parts, and the slices may be memory-mapped. Safe in the workers of a
    `torch.utils.data.DataLoader`.

    Parameters
    ----------
    graphs
        Slice graphs with features of the same width.
    partitioner
        Cuts each of them.
    num_hops
        Hops of context around each part.
    informs
        As in `part_data`.
    transform
        Called with each part; what it returns is given instead. It is called anew each
        time a part is asked for.

    Attributes
    ----------
    slice_of
        For each part, the name of its slice.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.parts import PartDataset
    >>> from stgraph.partition.metis import Metis
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> len(PartDataset([graph], Metis(part_size=100)))
    4
    """

    def __init__(
        self,
        graphs: Iterable[SliceGraph],
        partitioner: Partitioner,
        *,
        num_hops: int = 1,
        informs: bool = True,
        transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        if num_hops < 0:
            raise InputError(f"PartDataset needs num_hops of 0 or more, not {num_hops}.")
        self.graphs = list(graphs)
        _check_alike(self.graphs)
        self.partitions = [partitioner(graph) for graph in self.graphs]
        self.num_hops = num_hops
        self.informs = informs
        self.transform = transform
        self.slice_of = [
            graph.slice_id
            for graph, partition in zip(self.graphs, self.partitions, strict=True)
            for _ in range(partition.num_parts)
        ]
        # Cells by part once for all: looking for them in a membership costs as much as the slice has cells.
        self._cells = [np.argsort(partition.membership, kind="stable") for partition in self.partitions]
        self._ends = [
            np.cumsum(np.bincount(partition.membership, minlength=partition.num_parts)) for partition in self.partitions
        ]
        self._first = np.cumsum([0, *(partition.num_parts for partition in self.partitions)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> HeteroData:
        which, part = self._locate(index)
        data = part_data(self.graphs[which], part, informs=self.informs)
        return data if self.transform is None else self.transform(data)

    def part(self, index: int) -> Part:
        """Cells of a part and of its halo, as rows of its slice.

        Parameters
        ----------
        index
            Which part, from 0.

        Returns
        -------
        Part
            Both, with masks.
        """
        return self._locate(index)[1]

    def _locate(self, index: int) -> tuple[int, Part]:
        """Number of the slice of a part, and the part."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} parts, so there is no part {index}.")
        index %= len(self)
        which = int(np.searchsorted(self._first, index, side="right")) - 1
        number, ends = index - self._first[which], self._ends[which]
        owned = self._cells[which][ends[number - 1] if number else 0 : ends[number]]
        return which, part_with_halo(self.graphs[which], owned, self.num_hops)


def _check_alike(graphs: list[SliceGraph]) -> None:
    """PyG makes batches of graphs with the same types only; of others it leaves types out, or numbers them wrongly."""
    if len({graph.x.shape[1] for graph in graphs}) > 1:
        widths = {graph.slice_id: graph.x.shape[1] for graph in graphs}
        raise InputError(f"The slices have features of different width ({widths}): encode them alike.")
    if len({_num_levels(graph) for graph in graphs}) > 1:
        levels = {graph.slice_id: _num_levels(graph) for graph in graphs}
        raise InputError(
            f"The slices have virtual cells of different depth (levels: {levels}), which cannot be batched: "
            "build them with the same levels."
        )


def _num_levels(graph: SliceGraph) -> int:
    """Levels of virtual cells; a slice without has one that is empty."""
    number, level = 1, graph.virtual
    while level is not None and level.parent is not None:
        number, level = number + 1, level.parent
    return number


def _taken(array: NDArray[np.generic], index: NDArray[np.int64]) -> Tensor:
    """Some rows, copied: the array may be mapped from a file that must not be written to."""
    return torch.from_numpy(array[index])


def _relative(pos: NDArray[np.float64], graph: SliceGraph) -> Tensor:
    # float32 keeps seven digits: positions far from the origin would lose the spacing.
    return torch.from_numpy((pos - graph.centre).astype(np.float32))


def _add_level(data: HeteroData, number: int, level: VirtualCells, member: Tensor, graph: SliceGraph) -> None:
    """Virtual cells of one level and of those above, and who of the level below is a member of which."""
    below, name = level_name(number - 1), level_name(number)
    data[name].x = torch.tensor(level.x)
    data[name].pos = _relative(level.pos, graph)
    data[name].num_cells = torch.tensor(level.num_cells, dtype=torch.int64)
    members = torch.arange(len(member))
    length = distance(data[below].pos[: len(member)], data[name].pos[member])
    _connect(data, (below, "member_of", name), members, member, length)
    _connect(data, (name, "has_member", below), member, members, length)
    if level.parent is not None:
        _add_level(data, number + 1, level.parent, torch.tensor(level.parent.membership, dtype=torch.int64), graph)


def _connect_virtual(data: HeteroData) -> None:
    """All pairs of virtual cells."""
    pos = data["virtual"].pos
    v = len(pos)
    first, second = torch.arange(v).repeat_interleave(v), torch.arange(v).repeat(v)
    apart = first != second
    first, second = first[apart], second[apart]
    _connect(data, VIRTUAL_NEAR, first, second, distance(pos[first], pos[second]))


def _connect(data: HeteroData, edge_type: EdgeType, source: Tensor, target: Tensor, length: Tensor) -> None:
    edges = data[edge_type]
    edges.edge_index = torch.stack([source, target])
    edges.edge_attr = length[:, None]


def _no_virtual(graph: SliceGraph) -> VirtualCells:
    return VirtualCells(
        membership=np.zeros(0, dtype=np.int64),
        x=np.zeros((0, graph.x.shape[1]), dtype=np.float32),
        pos=np.zeros((0, 2)),
        num_cells=np.zeros(0, dtype=np.int64),
    )
