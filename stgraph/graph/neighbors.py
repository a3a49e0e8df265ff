"""The verb for those who want a graph and nothing else."""

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._config import to_config
from stgraph.errors import StgraphWarning
from stgraph.graph.build import build_edges
from stgraph.graph.builders import KNN, GraphBuilder
from stgraph.graph.edges import with_lengths
from stgraph.graph.slots import write_edges
from stgraph.graph.spacing import nearest_distances, warn_of_unit
from stgraph.io.read import canonical_cells
from stgraph.io.validate import canonical_positions

_DEFAULT_BUILDER = KNN()


def spatial_neighbors(
    adata: AnnData,
    *,
    builder: GraphBuilder = _DEFAULT_BUILDER,
    slice_key: str | None = None,
    um_per_unit: float | None = None,
    key_added: str = "spatial",
    copy: bool = False,
) -> AnnData | None:
    """Find the spatial neighbours of all cells, slice by slice, and write them where squidpy does.

    Only positions are looked at: ``X`` may hold anything.

    Parameters
    ----------
    adata
        Cells of one slice or several, with ``obsm["spatial"]``.
    builder
        Who is whose neighbour; see `stgraph.graph.builders` and its neighbours.
    slice_key
        Column of ``obs`` that names the section of a cell: no edge crosses from one to
        another. Without it, ``slice_id`` is used if there is one.
    um_per_unit
        Microns per unit of ``obsm["spatial"]``, for builders that count in microns, if
        ``adata`` itself does not tell (see `stgraph.io.units.to_microns`).
    key_added
        Prefix of the slots.
    copy
        Return a copy with the slots rather than write them into ``adata``.

    Returns
    -------
    AnnData or None
        ``obsp["spatial_connectivities"]`` (N, N) ones, ``obsp["spatial_distances"]``
        (N, N) lengths in the unit of ``obsm["spatial"]`` (explicit zeros are edges), and
        ``uns["spatial_neighbors"]``.

    Raises
    ------
    InputError
        If the positions cannot be used, the column is not there, the unit is known already,
        or a slice is too small for the builder; the message names the slice.

    Warns
    -----
    StgraphWarning
        If the unit looks wrong, or ``obs`` looks as if there were several slices and
        nothing says which.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.builders import Radius
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> stgraph.spatial_neighbors(tissue, builder=Radius(40.0))
    >>> tissue.obsp["spatial_connectivities"].shape
    (200, 200)
    """
    cells = _cells(adata, um_per_unit, slice_key)
    pos, in_microns = cells.obsm[_keys.SPATIAL], cells.uns[_keys.STGRAPH][_keys.UNIT] == "um"
    edges = [
        (rows, _edges_of(pos[rows], builder, name, in_microns=in_microns))
        for name, rows in _rows(cells.obs[_keys.SLICE]).items()
    ]
    near = edges[0][1] if len(edges) == 1 else _joined(edges, adata.n_obs)
    given = canonical_positions(adata, "adata")
    if not np.array_equal(given, pos):
        near = with_lengths(near, given)

    out = adata if not copy else adata.to_memory() if adata.isbacked else adata.copy()
    record = adata.uns.get(_keys.STGRAPH)
    unit = record.get(_keys.UNIT, "unknown") if isinstance(record, Mapping) else "unknown"
    write_edges(out, near, to_config(builder) | {"unit": unit}, key=key_added)
    return out if copy else None


def _cells(adata: AnnData, um_per_unit: float | None, slice_key: str | None) -> AnnData:
    """Positions in microns, if they can be, and slices."""
    with warnings.catch_warnings():
        # Builders that count in microns say themselves that there are none; to others it is all the same.
        warnings.filterwarnings("ignore", "adata: the unit of the coordinates is unknown", StgraphWarning)
        return canonical_cells(adata, name="adata", um_per_unit=um_per_unit, slice_key=slice_key)


def _rows(ids: pd.Series) -> dict[str, NDArray[np.int64]]:
    """Rows of each slice, in increasing order; slices in the order in which they begin."""
    codes, names = pd.factorize(ids)
    ends = np.cumsum(np.bincount(codes))[:-1]
    order = np.argsort(codes, kind="stable")
    return dict(zip(map(str, names), np.split(order, ends), strict=True))


def _edges_of(pos: NDArray[np.float64], builder: GraphBuilder, name: str, *, in_microns: bool) -> sp.csr_matrix:
    near = build_edges(pos, builder, name, in_microns=in_microns)
    if in_microns and (pos != pos[0]).any():
        warn_of_unit(nearest_distances(pos), name)
    return near


def _joined(edges: list[tuple[NDArray[np.int64], sp.csr_matrix]], n: int) -> sp.csr_matrix:
    """Edges of all cells from those of each slice and its rows."""
    pieces = [near.tocoo() for _, near in edges]
    row = np.concatenate([rows[near.row] for (rows, _), near in zip(edges, pieces, strict=True)])
    col = np.concatenate([rows[near.col] for (rows, _), near in zip(edges, pieces, strict=True)])
    return sp.csr_matrix((np.concatenate([near.data for near in pieces]), (row, col)), shape=(n, n))
