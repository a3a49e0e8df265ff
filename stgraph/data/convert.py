"""A slice as PyG `HeteroData`, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from stgraph.data.edge_types import HAS_MEMBER, MEMBER_OF, NEAR, TO_CELL, TO_VIRTUAL, VIRTUAL_NEAR, level_name
from stgraph.data.parts import part_data
from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph, VirtualCells
from stgraph.partition.halo import Part

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "HAS_MEMBER",
    "MEMBER_OF",
    "NEAR",
    "TO_CELL",
    "TO_VIRTUAL",
    "VIRTUAL_NEAR",
    "from_hetero_data",
    "to_hetero_data",
]


def to_hetero_data(source: "SliceGraph | AnnData", *, use_rep: str | None = None, informs: bool = True) -> HeteroData:
    """Convert a slice for PyG.

    Parameters
    ----------
    source
        The graph of one slice; or the AnnData of one slice. If its slots hold a graph
        (``obsp["spatial_connectivities"]``, by stgraph or squidpy) it is taken, otherwise
        `stgraph.build_graph` makes one.
    use_rep
        For an AnnData, the key of ``obsm`` with the features of the cells; without it
        the light cell encoder `LogPCA` is fitted to the slice.
    informs
        Whether to make the N x V edges between cells and virtual cells. Leave them out
        for whole slices of a million cells; `stgraph.data.transforms.AddInforms` adds
        them to a part or a batch.

    Returns
    -------
    HeteroData
        ============================  ==============================================================
        ``cell.x``                    (N, C) float32 features
        ``cell.pos``                  (N, 2) float32, relative to ``origin``
        ``cell.owned``                (N,) bool, which cells a loss may count: all of a whole slice
        ``cell.index``                (N,) int64, rows of the cells in the slice: 0 to N - 1
        ``virtual.x``, ``.pos``       (V, C), (V, 2) float32, means over the members
        ``virtual.num_cells``         (V,) int64
        ``virtual2``, ...             the same for virtual cells of virtual cells, if the graph has
                                      them; ``num_cells`` counts cells all the same
        ``slice_id``, ``unit``        str; lists of str in a batch
        ``origin``                    (1, 2) float64, the centre of the slice in its own coordinates
        ``spacing``                   (1,) float32, median spacing of the slice
        each type: ``edge_index``     (2, E) int64, source above target
        each type: ``edge_attr``      (E, 1) float32, distance in the unit of the slice
        ============================  ==============================================================

        Edge types: ``(cell, near, cell)``, ordered by target and then by source;
        ``(cell, member_of, virtual)`` and its reverse ``has_member``;
        ``(virtual, informs, cell)`` and ``(cell, informs, virtual)`` unless left out;
        ``(virtual, near, virtual)``; and between levels ``(virtual, member_of, virtual2)``
        with its reverse, and so on. A graph without virtual cells has V = 0, and those
        edge types are there and empty.

    Raises
    ------
    InputError
        If an AnnData cannot be used, or ``use_rep`` is given for a graph.

    See Also
    --------
    from_hetero_data : the inverse.
    stgraph.data.parts.part_data : some cells of a slice only.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> data = to_hetero_data(stgraph.build_graph(tissue))
    >>> data["cell"].num_nodes, data.slice_id, data.unit
    (200, 'synthetic_0', 'um')
    """
    graph = source if isinstance(source, SliceGraph) else _graph_of(source, use_rep)
    if graph is source and use_rep is not None:
        raise InputError("use_rep names features of an AnnData; a SliceGraph has its features already: leave it out.")
    everyone = Part(np.arange(len(graph)), np.ones(len(graph), dtype=np.bool_))
    return part_data(graph, everyone, informs=informs)


def from_hetero_data(data: HeteroData) -> SliceGraph:
    """The slice graph that `to_hetero_data` or `part_data` converted.

    Converting the result again gives the same bits. The other way round, ``pos``, the
    lengths and ``spacing`` are exact up to float32, in which PyG holds them.

    Parameters
    ----------
    data
        One slice or one part of it, not a batch. Of a part, the cells of its halo
        become cells like others, and virtual cells keep the numbers of the whole slice.

    Returns
    -------
    SliceGraph
        With ``origin`` from the data; ``virtual`` is None where V = 0. Other attributes,
        such as ``cell.owned`` or ``cell.index``, have no place in it and are left behind.

    Raises
    ------
    InputError
        If it is a batch, or an attribute that `to_hetero_data` writes is missing or of
        the wrong shape.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import from_hetero_data, to_hetero_data
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> again = from_hetero_data(to_hetero_data(graph))
    >>> again.slice_id, bool((again.x == graph.x).all()), len(again.virtual) == len(graph.virtual)
    ('synthetic_0', True, True)
    """
    if "batch" in data["cell"]:
        raise InputError("This is a batch of graphs: convert each of batch.to_data_list().")
    origin = _array(_needed(data, None, "origin"), np.float64)[0]
    pos = _array(_needed(data, "cell", "pos"), np.float64) + origin
    virtual = _virtual(data, origin, 1, len(pos)) if data["virtual"].num_nodes else None
    return SliceGraph(
        slice_id=_needed(data, None, "slice_id"),
        x=_array(_needed(data, "cell", "x"), np.float32),
        pos=pos,
        near=_near(data, len(pos)),
        virtual=virtual,
        spacing=float(_needed(data, None, "spacing")[0]),
        unit=_needed(data, None, "unit"),
        origin=origin,
    )


def _graph_of(adata: "AnnData", use_rep: str | None) -> SliceGraph:
    # Models need this module, but neither AnnData nor what builds graphs from it.
    from stgraph.graph.build import build_graph  # noqa: PLC0415
    from stgraph.graph.slots import has_slots, read_slots  # noqa: PLC0415

    return read_slots(adata, use_rep=use_rep) if has_slots(adata) else build_graph(adata, use_rep=use_rep)


def _near(data: HeteroData, n: int) -> sp.csr_matrix:
    source, target = _array(_needed(data, NEAR, "edge_index"), np.int64)
    length = _array(_needed(data, NEAR, "edge_attr"), np.float64)
    if length.shape != (len(source), 1):
        raise InputError(f"{NEAR} has {len(source)} edges, but its edge_attr has shape {length.shape}, not (E, 1).")
    order = np.lexsort([source, target])
    source, target = source[order], target[order]
    if ((np.diff(source) == 0) & (np.diff(target) == 0)).any():
        raise InputError(f"{NEAR} holds an edge twice: a slice graph has at most one between two cells.")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=n))])
    return sp.csr_matrix((length[order, 0], source, indptr), shape=(n, n))


def _virtual(data: HeteroData, origin: NDArray[np.float64], level: int, num_below: int) -> VirtualCells:
    """Virtual cells of one level and of those above."""
    below, name, above = (level_name(level + step) for step in (-1, 0, 1))
    edge_type = (below, "member_of", name)
    member, virtual = _array(_needed(data, edge_type, "edge_index"), np.int64)
    if not np.array_equal(np.sort(member), np.arange(num_below)):
        raise InputError(f"{edge_type} must hold each '{below}' node once, as a member of one '{name}' node.")
    membership = np.empty(num_below, dtype=np.int64)
    membership[member] = virtual
    num_cells = _array(_needed(data, name, "num_cells"), np.int64)
    return VirtualCells(
        membership=membership,
        x=_array(_needed(data, name, "x"), np.float32),
        pos=_array(_needed(data, name, "pos"), np.float64) + origin,
        num_cells=num_cells,
        parent=_virtual(data, origin, level + 1, len(num_cells)) if above in data.node_types else None,
    )


def _needed(data: HeteroData, store: Any, key: str) -> Any:
    holder = data if store is None else data[store] if store in (*data.node_types, *data.edge_types) else {}
    if key not in holder:
        where = key if store is None else f"{store}.{key}"
        raise InputError(
            f"There is no '{where}' in this HeteroData: it does not come from to_hetero_data or part_data."
        )
    return holder[key]


def _array(tensor: torch.Tensor, dtype: type) -> Any:
    """A copy of its own: the graph shares no memory with the data it came from."""
    return np.array(tensor.detach().cpu().numpy(), dtype=dtype)
