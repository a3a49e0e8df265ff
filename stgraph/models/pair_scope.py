"""Which nodes of a slice attend to which: some pairs of a sparse graph, or all pairs of a part."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.convert import NEAR, TO_CELL
from stgraph.data.lengths import distance
from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.models.cell_graph import EDGE_TYPES
from stgraph.nn.edge_attention import EdgeGraph
from stgraph.nn.se2_encoder import CELL, CLASS_TOKEN, VIRTUAL

Unit = Literal["spacing", "diagonal"]
"""What distances are counted in: spacings of the slice, or hundredths of the diagonal of its bounding box."""

PAIR_TYPES = (*EDGE_TYPES, "class")
"""Kinds of pairs by number: those of `stgraph.models.cell_graph`, and pairs with a class token."""

_CELL_CELL, _VIRTUAL_CELL, _VIRTUAL_VIRTUAL, _SELF, _CLASS = range(5)


@dataclass(frozen=True)
class PairGraph:
    """A batch as the one graph that attention runs on: cells, virtual cells and one class token for each slice.

    Attributes
    ----------
    edges
        Who attends to whom, with distances; kinds of edges are numbers in `PAIR_TYPES`. Pairs with a class token,
        which stands nowhere, have distance 0.
    node_type
        (M,) int64, as `stgraph.nn.se2_encoder.SE2Encoder` takes them.
    cell, virtual
        (N,) and (V,) int64, which of the M nodes are the cells and the virtual cells of the batch.
    near
        (E,) int64, for each ``(cell, near, cell)`` edge of the batch, its place among ``edges``.
    informs
        The same for each ``(virtual, informs, cell)`` edge, if these have a ``true_length``; else None.
    """

    edges: EdgeGraph
    node_type: Tensor
    cell: Tensor
    virtual: Tensor
    near: Tensor
    informs: Tensor | None = None


class PairScope(Protocol):
    """Says which nodes of a batch attend to which.

    Attributes
    ----------
    part_size
        As of `stgraph.models.base.CellGraphModel`.
    """

    @property
    def part_size(self) -> int | None:
        """Cells of a part, where a part is all there is."""
        ...

    def __call__(self, data: HeteroData) -> PairGraph:
        """The graph of attention of a batch of `HeteroData` from `stgraph.data`."""
        ...


@dataclass(frozen=True)
class EdgePairs:
    """Cells attend to their neighbours, to the virtual cells and the class token of their slice, and to themselves.

    Virtual cells and the class token of a slice attend to each other and to themselves, not to cells: a virtual cell
    is a mean over the whole slice already, and if it looked at the cells it is shown with, its state, and so that of
    every cell, would depend on how the slice was cut. So a part with as many hops of halo as there are layers gives
    the states of the whole slice.

    The cost grows with N (K + V). Pairs of cells and virtual cells are measured here: data made with
    ``informs=False`` serve as well.

    Parameters
    ----------
    unit
        What distances are counted in. ``"diagonal"`` makes the diagonal of the bounding box of each slice 100 long,
        as published weights want it, and needs the box: see `stgraph.data.box.SliceBox`.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.models.pair_scope import EdgePairs
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> pairs = EdgePairs()(to_hetero_data(graph, informs=False))
    >>> pairs.edges.num_nodes == 200 + len(graph.virtual) + 1
    True
    """

    unit: Unit = "spacing"

    part_size: ClassVar[None] = None

    def __post_init__(self) -> None:
        _check_unit(self.unit)

    def __call__(self, data: HeteroData) -> PairGraph:
        """The graph of attention of a batch."""
        (cell_slice, virtual_slice, num_slices), unit = _slices(data), _unit_length(data, self.unit)
        n, v = len(cell_slice), len(virtual_slice)
        device = cell_slice.device
        seen = torch.bincount(virtual_slice, minlength=num_slices)
        source, target, length, given = _near(data)
        near_degree = torch.bincount(target, minlength=n)

        # A row of a cell: its neighbours, virtual cells, class token, itself. Filled in place, for at a million
        # cells the edges are too many to be listed type by type and sorted.
        virtual_degree = seen[cell_slice]
        ptr = _cumulated(near_degree + virtual_degree + 2)
        num_edges = int(ptr[-1])
        row = torch.arange(n, device=device).repeat_interleave(ptr.diff())
        col = torch.empty(num_edges, dtype=torch.long, device=device)
        gap = torch.zeros(num_edges, device=device)
        kind = torch.empty(num_edges, dtype=torch.long, device=device)

        near = _places(ptr[:-1], near_degree)
        col[near], gap[near], kind[near] = source, length / unit[cell_slice[target]], _CELL_CELL
        informed = _places(ptr[:-1] + near_degree, virtual_degree)
        chosen = _places((seen.cumsum(0) - seen)[cell_slice], virtual_degree)
        cell = row[informed]
        col[informed], kind[informed] = chosen + n, _VIRTUAL_CELL
        gap[informed] = distance(data["cell"].pos[cell], data["virtual"].pos[chosen]) / unit[cell_slice[cell]]
        del informed, chosen, cell
        last = ptr[1:] - 1
        col[last - 1], kind[last - 1] = cell_slice + (n + v), _CLASS
        col[last], kind[last] = torch.arange(n, device=device), _SELF

        above = _above_cells(data, virtual_slice, num_slices, unit)
        edges = EdgeGraph(
            torch.cat([ptr, above.ptr[1:] + num_edges]),
            torch.cat([row, above.row + n]),
            torch.cat([col, above.col + n]),
            torch.cat([gap, above.distance]),
            torch.cat([kind, above.edge_type]),
        )
        types = [torch.full((count,), type_) for count, type_ in ((n, CELL), (v, VIRTUAL), (num_slices, CLASS_TOKEN))]
        nodes = torch.arange(n + v, device=device)
        return PairGraph(
            edges,
            torch.cat(types).to(device),
            nodes[:n],
            nodes[n:],
            near if given is None else near[given],
            _informs(data, ptr[:-1] + near_degree - (seen.cumsum(0) - seen)[cell_slice]),
        )


@dataclass(frozen=True)
class CompletePairs:
    """All nodes of a part attend to all of it: class token, virtual cells and cells, as in SToFM.

    The states of a part then depend on where it was cut, and its cost grows with the square of its nodes: it is for
    parts of about a thousand cells.

    Parameters
    ----------
    neighbors
        None for true distances of all pairs, as the SToFM paper has it. With a number, pairs of cells that are not
        among the so many nearest nodes of either, itself counted as one and virtual cells too, are put at the
        distance ``far``, and so are pairs of cells at the same place: what the released code does, with 50. Nodes
        that tie for the last place are all counted.
    far
        That distance, in ``unit``.
    unit
        As for `EdgePairs`. With ``"diagonal"`` the class token stands at the centre of the box of the slice, and
        where ``neighbors`` are counted it is one, as in the released code; otherwise it stands nowhere.
    max_nodes
        Larger parts are refused, rather than left to fill the memory.

    Attributes
    ----------
    part_size
        A thousand cells, or half of ``max_nodes``: what slices are cut into to be embedded.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.models.pair_scope import CompletePairs
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0], virtual_cells=None)
    >>> CompletePairs()(to_hetero_data(graph)).edges.num_edges == 101**2
    True
    """

    neighbors: int | None = None
    far: float = 100.0
    unit: Unit = "spacing"
    max_nodes: int = 8192

    def __post_init__(self) -> None:
        if self.neighbors is not None:
            check_whole(self, "neighbors")
        check_positive(self, "far", " distance")
        check_whole(self, "max_nodes")
        _check_unit(self.unit)

    @property
    def part_size(self) -> int:
        """Cells of a part."""
        return min(1000, max(1, self.max_nodes // 2))

    def __call__(self, data: HeteroData) -> PairGraph:
        """The graph of attention of a batch, with its blocks: part after part, each class token first."""
        (cell_slice, virtual_slice, num_slices), unit = _slices(data), _unit_length(data, self.unit)
        cells = torch.bincount(cell_slice, minlength=num_slices)
        virtual = torch.bincount(virtual_slice, minlength=num_slices)
        size = cells + virtual + 1
        if int(size.max()) > self.max_nodes:
            raise InputError(
                f"CompletePairs was given a part of {int(size.max())} nodes, more than its max_nodes of "
                f"{self.max_nodes}: cut the slice into smaller parts, take EdgePairs, or set max_nodes."
            )
        first, first_pair = size.cumsum(0) - size, (size * size).cumsum(0) - size * size
        first_cell = first + virtual + 1
        cell = torch.arange(len(cell_slice), device=size.device) + (first_cell - (cells.cumsum(0) - cells))[cell_slice]
        within = first + 1 - (virtual.cumsum(0) - virtual)
        informing = torch.arange(len(virtual_slice), device=size.device) + within[virtual_slice]
        node_type = torch.full((int(size.sum()),), CLASS_TOKEN, device=size.device)
        node_type[cell], node_type[informing] = CELL, VIRTUAL
        place = data["cell"].pos.new_zeros(len(node_type), 2)
        place[cell], place[informing] = data["cell"].pos, data["virtual"].pos
        if self.unit == "diagonal":
            place[first] = _centre(data).to(place)

        sizes: list[int] = size.tolist()
        parts = zip(torch.split(place, sizes), torch.split(node_type, sizes), unit, strict=True)
        gaps = [self._distances(where / length, types) for where, types, length in parts]
        kinds = [_kinds(types) for types in torch.split(node_type, sizes)]
        edges = EdgeGraph.complete(sizes, torch.cat(gaps), torch.cat(kinds))
        source, target = data[NEAR].edge_index
        of = cell_slice[target]
        near = first_pair[of] + (cell[target] - first[of]) * size[of] + cell[source] - first[of]
        # Virtual cell v of the batch is node v + 1, and the first of its part, less the virtual cells before the part.
        begin = first_pair[cell_slice] + (cell - first[cell_slice]) * size[cell_slice]
        informs = _informs(data, begin + 1 - (virtual.cumsum(0) - virtual)[cell_slice])
        return PairGraph(edges, node_type, cell, informing, near, informs)

    def _distances(self, place: Tensor, types: Tensor) -> Tensor:
        """(n * n,) of a part, row by row."""
        gap = distance(place[:, None], place)
        token = types == CLASS_TOKEN
        if self.neighbors is not None:
            itself = torch.eye(len(gap), dtype=torch.bool, device=gap.device)
            ranked = gap if self.unit == "diagonal" else gap.masked_fill(token & ~itself, torch.inf)
            counted = min(self.neighbors, max(len(gap) - 1, 1))
            # Distances that are equal differ by rounding, and differently in a slice that is turned.
            close = ranked <= ranked.kthvalue(counted, dim=1, keepdim=True).values * (1 + 1e-5)
            far = ~(close | close.T) | (gap == 0)
            cells = types == CELL
            gap = gap.masked_fill(far & cells & cells[:, None] & ~itself, self.far)
        gap[token], gap[:, token] = 0.0, 0.0
        return gap.ravel()


def _check_unit(unit: str) -> None:
    if unit not in get_args(Unit):
        raise InputError(f"The unit must be 'spacing' or 'diagonal', not {unit!r}.")


def _slices(data: HeteroData) -> tuple[Tensor, Tensor, int]:
    """Slice of each cell and of each virtual cell, and the number of slices."""
    of = [
        torch.zeros(data[name].num_nodes, dtype=torch.long, device=data["cell"].pos.device)
        if data[name].get("batch") is None
        else data[name].batch
        for name in ("cell", "virtual")
    ]
    return of[0], of[1], len(data.spacing)


def _unit_length(data: HeteroData, unit: Unit) -> Tensor:
    """(B,) how long the unit is in each slice."""
    if unit == "spacing":
        spacing: Tensor = data.spacing
        return spacing
    box = _box(data)
    # A slice that is a point has no diagonal, and no distances either.
    diagonal: Tensor = (box[:, 2:] - box[:, :2]).norm(dim=1)
    return (diagonal / 100).clamp(min=torch.finfo(box.dtype).tiny)


def _centre(data: HeteroData) -> Tensor:
    box = _box(data)
    return (box[:, :2] + box[:, 2:]) / 2


def _box(data: HeteroData) -> Tensor:
    box: Tensor | None = getattr(data, "box", None)
    if box is None:
        raise InputError(
            "unit='diagonal' needs the bounding box of the whole slice, which a part does not know: give its data a "
            "'box' by the transform stgraph.data.box.SliceBox, or count in spacings."
        )
    return box


def _near(data: HeteroData) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Source, target and length of the edges between cells by target, and the place of each given edge among them."""
    (source, target), length = data[NEAR].edge_index, data[NEAR].edge_attr[:, 0]
    if not bool((target[1:] < target[:-1]).any()):
        return source, target, length, None
    order = torch.argsort(target, stable=True)
    return source[order], target[order], length[order], torch.argsort(order)


def _informs(data: HeteroData, begin: Tensor) -> Tensor | None:
    """Where the pairs of cells with virtual cells are that are asked for, if virtual cell 0 is at ``begin`` (N,)."""
    if TO_CELL not in data.edge_types or "true_length" not in data[TO_CELL]:
        return None
    virtual, cell = data[TO_CELL].edge_index
    place: Tensor = begin[cell] + virtual
    return place


def _cumulated(count: Tensor) -> Tensor:
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


def _places(begin: Tensor, count: Tensor) -> Tensor:
    """``begin[i], begin[i] + 1, ...``, ``count[i]`` of them, for each i."""
    shift = begin - (count.cumsum(0) - count)
    return torch.arange(int(count.sum()), device=count.device) + shift.repeat_interleave(count)


def _above_cells(data: HeteroData, virtual_slice: Tensor, num_slices: int, unit: Tensor) -> EdgeGraph:
    """All pairs of the virtual cells and the class token of each slice; tokens come after all virtual cells."""
    token = torch.arange(num_slices, device=virtual_slice.device)
    owner, order = torch.cat([virtual_slice, token]).sort(stable=True)
    size = torch.bincount(owner, minlength=num_slices)
    types = torch.where(order < len(virtual_slice), VIRTUAL, CLASS_TOKEN)
    place = torch.cat([data["virtual"].pos, data["virtual"].pos.new_zeros(num_slices, 2)])[order]
    gaps, kinds, rows, cols = [], [], [], []
    parts = (torch.split(each, size.tolist()) for each in (place, types, order))
    for where, of, node, length in zip(*parts, unit, strict=True):
        gap = distance(where[:, None], where) / length
        gap[of == CLASS_TOKEN], gap[:, of == CLASS_TOKEN] = 0.0, 0.0
        gaps.append(gap.ravel())
        kinds.append(_kinds(of))
        rows.append(node.repeat_interleave(len(node)))
        cols.append(node.repeat(len(node)))
    return EdgeGraph.from_edges(len(order), torch.cat(rows), torch.cat(cols), torch.cat(gaps), torch.cat(kinds))[0]


def _kinds(types: Tensor) -> Tensor:
    """(n * n,) kinds of all pairs of nodes, row by row."""
    table = torch.full((3, 3), _CLASS)
    table[CELL, CELL], table[VIRTUAL, VIRTUAL] = _CELL_CELL, _VIRTUAL_VIRTUAL
    table[CELL, VIRTUAL] = table[VIRTUAL, CELL] = _VIRTUAL_CELL
    kind = table.to(types.device)[types[:, None], types]
    return kind.fill_diagonal_(_SELF).ravel()
