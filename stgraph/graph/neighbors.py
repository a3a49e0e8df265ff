"""The verb for those who want a graph and nothing else."""

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from stgraph import _keys
from stgraph._config import to_config
from stgraph.errors import InputError
from stgraph.graph.build import build_edges
from stgraph.graph.builders import KNN, GraphBuilder
from stgraph.graph.slots import write_edges
from stgraph.graph.spacing import nearest_distances, warn_of_unit
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
        ``adata`` does not come from `stgraph.read`.
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
        If the positions cannot be used, the column is not there, or a slice is too small
        for the builder; the message names the slice.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.builders import Radius
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> stgraph.spatial_neighbors(tissue, builder=Radius(40.0))
    >>> tissue.obsp["spatial_connectivities"].shape
    (200, 200)
    """
    if um_per_unit is not None and not (np.isfinite(um_per_unit) and um_per_unit > 0):
        raise InputError(f"um_per_unit must be a positive number of microns, not {um_per_unit}.")
    record = adata.uns.get(_keys.STGRAPH, {})
    in_microns = um_per_unit is not None or record.get(_keys.UNIT) == "um"
    factor = 1.0 if um_per_unit is None else um_per_unit
    pos = canonical_positions(adata, "adata") * factor

    rows, cols, lengths = [], [], []
    for name, cells in _slices(adata, slice_key):
        near = build_edges(pos[cells], builder, name, in_microns=in_microns).tocoo()
        if in_microns and len(cells) > 1 and (pos[cells] != pos[cells[0]]).any():
            warn_of_unit(nearest_distances(pos[cells]), name)
        rows.append(cells[near.row])
        cols.append(cells[near.col])
        lengths.append(near.data / factor)
    edges = sp.coo_matrix(
        (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(cols))), shape=(adata.n_obs, adata.n_obs)
    ).tocsr()
    edges.sort_indices()

    out = adata.copy() if copy else adata
    params = to_config(builder) | {"unit": "um" if um_per_unit is None and in_microns else "unknown"}
    write_edges(out, edges, params, key=key_added)
    return out if copy else None


def _slices(adata: AnnData, slice_key: str | None) -> list[tuple[str, np.ndarray]]:
    key = slice_key or (_keys.SLICE if _keys.SLICE in adata.obs else None)
    if key is None:
        return [("adata", np.arange(adata.n_obs))]
    if key not in adata.obs:
        raise InputError(f"obs has no column '{key}' to tell slices apart; it has: {', '.join(adata.obs.columns)}.")
    if missing := int(adata.obs[key].isna().sum()):
        raise InputError(f"{missing} cells have no value in obs['{key}'], so their slice is unknown.")
    names = adata.obs[key].astype(str).to_numpy()
    return [(str(name), np.flatnonzero(names == name)) for name in dict.fromkeys(names)]
