"""Read tissue slices into canonical AnnData."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import anndata as ad
from anndata import AnnData

from stgraph import _keys
from stgraph.errors import InputError, StgraphWarning
from stgraph.io.slices import assign_slices
from stgraph.io.units import to_microns
from stgraph.io.validate import canonical_counts, canonical_positions, check_names


def read(
    path: str | os.PathLike[str],
    *,
    um_per_unit: float | None = None,
    slice_key: str | None = None,
    layer: str | None = None,
    keep: str | None = None,
) -> AnnData:
    """Read an h5ad file into a canonical AnnData.

    Parameters
    ----------
    path
        An ``.h5ad`` file with raw counts and ``obsm["spatial"]``.
    um_per_unit
        Microns per unit of the coordinates. If not given, the file may tell (see
        `stgraph.io.units.to_microns`); if it does not, the unit is recorded as unknown
        and a `StgraphWarning` says so.
    slice_key
        Column of ``obs`` that names the tissue section of a cell, for files that hold
        several. Without it, a column ``slice_id`` is used, else the file is one slice.
    layer
        Take the counts from this layer rather than ``X``.
    keep
        A `pandas.DataFrame.query` over ``obs`` that selects the cells to use.

    Returns
    -------
    AnnData
        Counts as CSR in ``X``; (N, 2) float64 positions in ``obsm["spatial"]``, in
        microns if the unit is known; the section in ``obs["slice_id"]``; what is known
        about the unit in ``uns["stgraph"]``. Everything else is kept.

    Raises
    ------
    InputError
        If the file is no h5ad or its content cannot be used; the message says how to
        mend it.

    Examples
    --------
    >>> import tempfile, stgraph
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tissue.write_h5ad(f"{folder}/slice.h5ad")
    ...     stgraph.read(f"{folder}/slice.h5ad").shape
    (200, 60)
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"'{path}' does not exist.")
    if path.is_dir():
        raise InputError(f"'{path}' is a folder: pass the .h5ad file of a slice.")
    try:
        adata = ad.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise many kinds for a damaged or foreign file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"'{path}' is not a readable h5ad file ({reason}): write it with adata.write_h5ad(...)."
        ) from error
    return canonicalize(adata, name=path.stem, um_per_unit=um_per_unit, slice_key=slice_key, layer=layer, keep=keep)


def canonicalize(
    adata: AnnData,
    *,
    name: str = "slice",
    um_per_unit: float | None = None,
    slice_key: str | None = None,
    layer: str | None = None,
    keep: str | None = None,
) -> AnnData:
    """Check an AnnData and bring it into canonical form; the input is not changed.

    Parameters
    ----------
    adata
        Raw counts in ``X`` (or ``layer``) and positions in ``obsm["spatial"]``.
    name
        What to call the data in messages, and the slice if it is only one.
    um_per_unit, slice_key, layer, keep
        As in `read`.

    Returns
    -------
    AnnData
        As in `read`.

    Raises
    ------
    InputError
        If the content cannot be used.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.io.read import canonicalize
    >>> canonicalize(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]).uns["stgraph"]["unit"]
    'um'
    """
    if adata.isbacked:
        adata = adata.to_memory()
    if keep is not None:
        adata = select_cells(adata, keep, name)
    check_names(adata, name)
    counts = canonical_counts(adata, name, layer)
    pos = canonical_positions(adata, name)
    # The containers are copied, so that the caller's AnnData stays as it is; the counts are not.
    out = AnnData(
        X=counts,
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        obsm={key: value for key, value in adata.obsm.items() if key != _keys.SPATIAL},
        varm=dict(adata.varm),
        obsp=dict(adata.obsp),
        varp=dict(adata.varp),
        layers={key: value for key, value in adata.layers.items() if key != layer},
        uns=dict(adata.uns),
    )
    if adata.raw is not None:
        out.raw = adata.raw.to_adata()
    out.obsm[_keys.SPATIAL] = pos
    record = adata.uns.get(_keys.STGRAPH)
    out.uns[_keys.STGRAPH] = dict(record) if isinstance(record, Mapping) else {}
    to_microns(out, name, um_per_unit)
    assign_slices(out, name, slice_key)
    return out


def ensure_canonical(adata: AnnData, *, name: str = "slice", slice_key: str | None = None) -> AnnData:
    """Check an AnnData that may or may not come from `read`.

    Parameters
    ----------
    adata
        What the user gave. It may have been changed since it was read.
    name
        What to call it, and its slice if nobody has named it.
    slice_key
        As in `read`.

    Returns
    -------
    AnnData
        In canonical form, as from `canonicalize`: unit and slices as they were recorded,
        counts, positions and names checked anew.

    Raises
    ------
    InputError
        If the content cannot be used.
    """
    record = adata.uns.get(_keys.STGRAPH)
    if not isinstance(record, Mapping) or _keys.UNIT not in record or _keys.SLICE not in adata.obs:
        return canonicalize(adata, name=name, slice_key=slice_key)
    with warnings.catch_warnings():
        # That the unit is unknown was said when it was read.
        warnings.simplefilter("ignore", StgraphWarning)
        out = canonicalize(adata, name=name, slice_key=slice_key)
    out.uns[_keys.STGRAPH] = dict(record)
    return out


def canonical_cells(
    adata: AnnData, *, name: str = "slice", um_per_unit: float | None = None, slice_key: str | None = None
) -> AnnData:
    """Positions, unit and slices of an AnnData, checked, whatever its ``X`` holds.

    For work that needs no counts: graphs of cells whose features are at hand.

    Parameters
    ----------
    adata
        Cells with ``obsm["spatial"]``; it is not changed.
    name
        What to call it, and its slice if nobody has named it.
    um_per_unit, slice_key
        As in `read`.

    Returns
    -------
    AnnData
        Without ``X`` and genes: ``obs`` with ``slice_id``, ``obsm`` with canonical
        positions in ``"spatial"``, and ``uns["stgraph"]``, as from `canonicalize`.

    Raises
    ------
    InputError
        If the positions cannot be used.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.io.read import canonical_cells
    >>> cells = canonical_cells(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0])
    >>> cells.shape, cells.obsm["spatial"].shape
    ((100, 0), (100, 2))
    """
    record = adata.uns.get(_keys.STGRAPH)
    known = isinstance(record, Mapping) and _keys.UNIT in record and _keys.SLICE in adata.obs
    if adata.n_obs < 2:
        raise InputError(f"{name}: the number of its cells is {adata.n_obs}, and a graph needs neighbours.")
    obs = adata.obs.copy()
    obs.index = [str(i) for i in range(adata.n_obs)]  # names may repeat, and nothing is looked up by them here
    out = AnnData(obs=obs)
    for key in ("spatial", _keys.STGRAPH):
        if key in adata.uns:
            out.uns[key] = adata.uns[key]
    out.obsm[_keys.SPATIAL] = canonical_positions(adata, name)
    out.uns[_keys.STGRAPH] = dict(record) if isinstance(record, Mapping) else {}
    with warnings.catch_warnings():
        if known:  # that the unit is unknown was said when it was read
            warnings.simplefilter("ignore", StgraphWarning)
        to_microns(out, name, um_per_unit)
    assign_slices(out, name, slice_key)
    return out


def select_cells(adata: AnnData, query: str, name: str) -> AnnData:
    """A view of the cells for which a `pandas.DataFrame.query` over ``obs`` holds; `InputError` if there are none."""
    try:
        kept = adata.obs.index.isin(adata.obs.query(query).index)
    except Exception as error:  # pandas raises many kinds for a query it cannot evaluate
        raise InputError(f"{name}: the query '{query}' cannot be evaluated over obs ({error}).") from error
    if not kept.any():
        raise InputError(f"{name}: the query '{query}' keeps no cell of {adata.n_obs}.")
    return adata[kept]
