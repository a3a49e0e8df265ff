"""From an AnnData of one slice to its `SliceGraph`."""

import warnings

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph import _keys
from stgraph._config import to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.builders import KNN, GraphBuilder
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.virtual_cells import JointLeiden, VirtualCellBuilder
from stgraph.io.read import ensure_canonical
from stgraph.preprocess.encoder import LogPCA

_DEFAULT_BUILDER = KNN()
_DEFAULT_VIRTUAL = JointLeiden()


_MANY_ISOLATED = 0.05
"""Share of cells without a neighbour from which on it is said."""


def build_graph(
    adata: AnnData,
    *,
    builder: GraphBuilder = _DEFAULT_BUILDER,
    virtual_cells: VirtualCellBuilder | None = _DEFAULT_VIRTUAL,
    use_rep: str | None = None,
    features: NDArray[np.floating] | None = None,
) -> SliceGraph:
    """Build the graph of one tissue section.

    Parameters
    ----------
    adata
        One slice, as `stgraph.read` gives it. It is checked, and not changed.
    builder
        Who is whose neighbour.
    virtual_cells
        How cells are grouped into supernodes; None for none.
    use_rep
        Key of ``obsm`` with the features of the cells.
    features
        (N, C) features, instead of ``use_rep``. With neither, the light cell encoder
        `LogPCA` is fitted to the slice.

    Returns
    -------
    SliceGraph
        N cells, their edges, V virtual cells.

    Raises
    ------
    InputError
        If the slice cannot be used, holds several sections, is too small for the
        builder, or has no known unit where the builder needs microns.

    Examples
    --------
    >>> import stgraph
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0])
    >>> len(graph), graph.unit
    (300, 'um')
    """
    adata = ensure_canonical(adata)
    x = _features(adata, use_rep, features)
    return graph_of(adata, x, builder=builder, virtual_cells=virtual_cells)


def graph_of(
    adata: AnnData,
    x: NDArray[np.floating],
    *,
    builder: GraphBuilder,
    virtual_cells: VirtualCellBuilder | None,
) -> SliceGraph:
    """As `build_graph`, for a slice that is known to be canonical.

    Parameters
    ----------
    adata
        One canonical slice.
    x
        (N, C) features of its cells.
    builder, virtual_cells
        As in `build_graph`.

    Returns
    -------
    SliceGraph
        N cells, their edges, V virtual cells.
    """
    slice_id = _single_slice(adata)
    pos = np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)
    unit = str(adata.uns[_keys.STGRAPH][_keys.UNIT])
    if builder.in_microns and unit != "um":
        raise InputError(
            f"{slice_id}: {type(builder).__name__} counts in microns, but the unit of the coordinates is unknown: "
            "give --um-per-unit (um_per_unit=), or use k nearest neighbours."
        )
    try:
        near = builder(pos)
        spacing = median_spacing(pos)
    except InputError as error:
        raise InputError(f"{slice_id}: {error}") from error
    if unit == "um" and not 1 <= spacing <= 200:
        warnings.warn(
            f"{slice_id}: the median distance to the nearest neighbour is {spacing:.3g} microns, outside 1 to 200; "
            "is the unit right (--um-per-unit)?",
            StgraphWarning,
            stacklevel=2,
        )
    _check_edges(near, slice_id, spacing, unit)
    virtual = None if virtual_cells is None else virtual_cells(x, pos)
    return SliceGraph(
        slice_id=slice_id,
        x=np.ascontiguousarray(x, dtype=np.float32),
        pos=pos,
        near=near,
        virtual=virtual,
        spacing=spacing,
        unit=unit,
    )


def median_spacing(pos: NDArray[np.float64]) -> float:
    """Median distance of a cell to its nearest neighbour that lies elsewhere.

    Parameters
    ----------
    pos
        (N, 2) positions, not all the same.

    Returns
    -------
    float
        In the unit of ``pos``.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.build import median_spacing
    >>> median_spacing(np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]]))
    3.0
    """
    places = np.unique(pos, axis=0)
    if len(places) < 2:
        raise InputError("All cells lie at one point, so no spacing can be found.")
    return float(np.median(cKDTree(places).query(places, k=2, workers=-1)[0][:, 1]))


def write_slots(adata: AnnData, graph: SliceGraph, *, builder: GraphBuilder) -> None:
    """Write the graph into squidpy's slots of ``adata``, in place.

    Parameters
    ----------
    adata
        The slice the graph was built from.
    graph
        Its graph.
    builder
        What built it, for the record.
    """
    connectivities = graph.near.copy().astype(np.float32)
    connectivities.data[:] = 1.0
    adata.obsp[_keys.CONNECTIVITIES] = connectivities
    adata.obsp[_keys.DISTANCES] = graph.near
    adata.uns[_keys.NEIGHBORS] = {
        "connectivities_key": _keys.CONNECTIVITIES,
        "distances_key": _keys.DISTANCES,
        "params": to_config(builder) | {"unit": graph.unit},
    }
    if graph.virtual is not None:
        adata.obs[_keys.VIRTUAL_CELL] = graph.virtual.membership.astype(str)
        adata.obs[_keys.VIRTUAL_CELL] = adata.obs[_keys.VIRTUAL_CELL].astype("category")


def _check_edges(near: sp.csr_matrix, slice_id: str, spacing: float, unit: str) -> None:
    isolated = int((np.diff(near.indptr) == 0).sum())
    typical = f"its cells are typically {spacing:.3g} {'microns' if unit == 'um' else 'units'} apart"
    if near.nnz == 0:
        raise InputError(f"{slice_id}: no cell has a neighbour, while {typical}: choose a larger radius.")
    if isolated > _MANY_ISOLATED * near.shape[0]:
        warnings.warn(
            f"{slice_id}: {isolated} of {near.shape[0]} cells have no neighbour, while {typical}; is the radius right?",
            StgraphWarning,
            stacklevel=3,
        )


def _single_slice(adata: AnnData) -> str:
    names = adata.obs[_keys.SLICE].astype(str).unique()
    if len(names) != 1:
        raise InputError(
            f"The data hold {len(names)} slices, and a graph never crosses from one to another: "
            "split them first with stgraph.io.slices.split_slices([adata])."
        )
    return str(names[0])


def _features(adata: AnnData, use_rep: str | None, features: NDArray[np.floating] | None) -> NDArray[np.floating]:
    if features is None and use_rep is None:
        return LogPCA().fit([adata]).transform(adata)
    if features is None:
        if use_rep not in adata.obsm:
            raise InputError(f"There is no obsm['{use_rep}'] with features; obsm has: {', '.join(adata.obsm)}.")
        features = np.asarray(adata.obsm[use_rep])
    if features.ndim != 2 or len(features) != adata.n_obs or not np.isfinite(features).all():
        raise InputError(f"Features must be finite, of shape ({adata.n_obs}, C), not {features.shape}.")
    return features
