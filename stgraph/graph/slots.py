"""A slice graph in squidpy's slots of an AnnData, written and read."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from itertools import count, takewhile
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._config import to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.build import assemble, single_slice
from stgraph.graph.builders import GraphBuilder
from stgraph.graph.edges import with_lengths
from stgraph.graph.features import cells_and_features
from stgraph.graph.slice_graph import SliceGraph, VirtualCells
from stgraph.graph.virtual_cells import VirtualCellBuilder, aggregate


def write_slots(adata: AnnData, graph: SliceGraph, *, builder: GraphBuilder | None = None) -> None:
    """Write a slice graph into squidpy's slots of ``adata``, in place.

    Parameters
    ----------
    adata
        The slice the graph was built from.
    graph
        Its graph.
    builder
        What built it, for the record.
    """
    # A copy: what becomes of the slots is nothing to the graph.
    write_edges(adata, graph.near.copy(), ({} if builder is None else to_config(builder)) | {"unit": graph.unit})
    for key in _level_keys(adata):
        del adata.obs[key]  # of a graph that was there before
    level, number, membership = graph.virtual, 1, np.arange(len(graph))
    while level is not None:
        membership = level.membership[membership]
        adata.obs[_level_key(number)] = pd.Categorical(membership.astype(str))
        level, number = level.parent, number + 1


def read_slots(
    adata: AnnData,
    *,
    use_rep: str | None = None,
    features: NDArray[np.floating] | None = None,
    virtual_cells: VirtualCellBuilder | None = None,
    key: str = "spatial",
) -> SliceGraph:
    """The graph of one slice from squidpy's slots, whoever wrote them.

    Parameters
    ----------
    adata
        One slice with a graph, by `stgraph.spatial_neighbors`, `stgraph.fit` or
        ``squidpy.gr.spatial_neighbors``. It is not changed.
    use_rep, features
        As in `stgraph.build_graph`.
    virtual_cells
        How cells are grouped into supernodes. If None, those of
        ``obs["stgraph_virtual_cell"]`` are taken, and there are none without it;
        coarser levels are in ``obs["stgraph_virtual_cell2"]`` and so on.
    key
        Prefix of the slots: squidpy's ``key_added``.

    Returns
    -------
    SliceGraph
        N cells, their edges, measured anew (see `read_edges`), V virtual cells.

    Raises
    ------
    InputError
        If there is no graph, or the slice cannot be used.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.slots import read_slots
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> stgraph.spatial_neighbors(tissue)
    >>> len(read_slots(tissue))
    200
    """
    cells, x = cells_and_features(adata, use_rep=use_rep, features=features)
    slice_id = single_slice(cells)
    pos = cells.obsm[_keys.SPATIAL]
    near = read_edges(adata, pos, key=key)
    graph = assemble(
        slice_id, x, pos, near, unit=str(cells.uns[_keys.STGRAPH][_keys.UNIT]), virtual_cells=virtual_cells
    )
    if virtual_cells is None:
        graph = replace(graph, virtual=_read_virtual(adata, slice_id, graph.x, pos))
    return graph


def has_slots(adata: AnnData, *, key: str = "spatial") -> bool:
    """Whether ``adata`` holds a graph of its cells, by stgraph or by squidpy.

    Parameters
    ----------
    adata
        Any AnnData.
    key
        Prefix of the slots: squidpy's ``key_added``.

    Returns
    -------
    bool
        True if the slot of connectivities is there.
    """
    return _connectivities_key(adata, key) in adata.obsp


def write_edges(adata: AnnData, lengths: sp.csr_matrix, params: Mapping[str, Any], *, key: str = "spatial") -> None:
    """Write edges into squidpy's slots of ``adata``, in place.

    Parameters
    ----------
    adata
        The cells.
    lengths
        (N, N) edge lengths in the unit of ``obsm["spatial"]``; explicit zeros are edges.
    params
        What made them, for the record.
    key
        Prefix of the slots: squidpy's ``key_added``.
    """
    connectivities = sp.csr_matrix(
        # Copies: whoever takes zeros out of one slot in place must not shift the entries of the other.
        (np.ones(lengths.nnz, dtype=np.float32), lengths.indices.copy(), lengths.indptr.copy()),
        shape=lengths.shape,
    )
    names = f"{key}_connectivities", f"{key}_distances"
    adata.obsp[names[0]] = connectivities
    adata.obsp[names[1]] = lengths
    adata.uns[f"{key}_neighbors"] = {
        "connectivities_key": names[0],
        "distances_key": names[1],
        "params": dict(params),
    }


def read_edges(adata: AnnData, pos: NDArray[np.float64], *, key: str = "spatial") -> sp.csr_matrix:
    """Edges in squidpy's slots, measured.

    Lengths are taken from the positions, not from the slot of distances: squidpy puts
    the number of the ring there for grids, and drops zeros. Self-loops are left out with
    a warning, for a cell is never its own neighbour here.

    Parameters
    ----------
    adata
        Cells with a graph, by squidpy or stgraph.
    pos
        (N, 2) their positions.
    key
        Prefix of the slots: squidpy's ``key_added``.

    Returns
    -------
    csr_matrix
        (N, N) lengths in the unit of ``pos``. Directed if the graph in the slots is.

    Raises
    ------
    InputError
        If the slot is missing or holds no square matrix of finite numbers.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.slots import read_edges
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> stgraph.spatial_neighbors(tissue)
    >>> near = read_edges(tissue, tissue.obsm["spatial"])
    >>> (near != tissue.obsp["spatial_distances"]).nnz
    0
    """
    name = _connectivities_key(adata, key)
    if name not in adata.obsp:
        raise InputError(
            f"There is no graph in obsp['{name}']; obsp has: {', '.join(adata.obsp) or 'nothing'}. Make one with "
            "stgraph.spatial_neighbors(adata) or squidpy.gr.spatial_neighbors(adata)."
        )
    matrix = adata.obsp[name]
    try:
        pattern = sp.csr_matrix(matrix, copy=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"obsp['{name}'] holds no matrix ({error}): build the graph anew.") from error
    if pattern.data.dtype.kind not in "biuf" or not np.isfinite(pattern.data).all():
        raise InputError(f"obsp['{name}'] holds values that are not finite numbers: build the graph anew.")
    # Stored zeros are no connection, whatever the distance says; what connects may be coincident.
    pattern.eliminate_zeros()
    pattern.sum_duplicates()
    row = np.repeat(np.arange(len(pos)), np.diff(pattern.indptr))
    loops = int((row == pattern.indices).sum())
    if loops:
        warnings.warn(
            f"The graph in obsp['{name}'] has {loops} self-loops, which are left out: a cell is not its own neighbour.",
            StgraphWarning,
            stacklevel=2,
        )
        keep = row != pattern.indices
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row[keep], minlength=len(pos)))])
        pattern = sp.csr_matrix((pattern.data[keep], pattern.indices[keep], indptr), shape=pattern.shape)
    return with_lengths(pattern, pos)


def _read_virtual(
    adata: AnnData, slice_id: str, x: NDArray[np.float32], pos: NDArray[np.float64]
) -> VirtualCells | None:
    """Virtual cells of all levels from ``obs``."""
    levels: list[VirtualCells] = []
    below = np.arange(len(pos))  # of each cell, its virtual cell of the level before
    num_cells = None
    for key in _level_keys(adata):
        labels = _numbers(adata.obs[key], slice_id)
        membership = np.empty(len(x), dtype=np.int64)
        membership[below] = labels
        if not np.array_equal(membership[below], labels):
            raise InputError(
                f"{slice_id}: obs['{key}'] puts cells of one finer virtual cell into several coarser ones: drop it."
            )
        levels.append(aggregate(membership, x, pos, num_cells=num_cells))
        below = levels[-1].membership[below]
        x, pos, num_cells = levels[-1].x, levels[-1].pos, levels[-1].num_cells
    nested = None
    for level in reversed(levels):
        nested = replace(level, parent=nested)
    return nested


def _numbers(labels: pd.Series, slice_id: str) -> NDArray[np.int64]:
    """Labels as 0 to V - 1, in their order if they are numbers."""
    if labels.isna().any():
        raise InputError(f"{slice_id}: some cells have no virtual cell in obs['{labels.name}']: drop it.")
    names, code = np.unique(labels.astype(str).to_numpy(dtype=str), return_inverse=True)
    # As text, 10 would come before 2.
    order = np.lexsort([names, np.char.str_len(names)])
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return rank[code]


def _level_key(number: int) -> str:
    return _keys.VIRTUAL_CELL if number == 1 else f"{_keys.VIRTUAL_CELL}{number}"


def _level_keys(adata: AnnData) -> list[str]:
    """Columns of ``obs`` that hold virtual cells, the finest first."""
    return list(takewhile(lambda key: key in adata.obs, map(_level_key, count(1))))


def _connectivities_key(adata: AnnData, key: str) -> str:
    record = adata.uns.get(f"{key}_neighbors")
    told = record.get("connectivities_key") if isinstance(record, Mapping) else None
    return told if isinstance(told, str) else f"{key}_connectivities"
