"""From AnnData to the `SliceGraph` of each slice."""

import warnings
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.builders import KNN, GraphBuilder
from stgraph.graph.features import cells_and_features
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.spacing import nearest_distances, warn_of_unit
from stgraph.graph.virtual_cells import JointLeiden, VirtualCellBuilder
from stgraph.io.read import ensure_canonical
from stgraph.io.slices import split_slices
from stgraph.preprocess.encoder import LogPCA

_DEFAULT_BUILDER = KNN()
_DEFAULT_VIRTUAL = JointLeiden()

_FEATURES = "features"

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
        `LogPCA` is fitted to the slice; with either, ``X`` need not hold counts.

    Returns
    -------
    SliceGraph
        N cells, their edges, V virtual cells.

    Raises
    ------
    InputError
        If the slice cannot be used, holds several sections, is too small for the
        builder, or has no known unit where the builder needs microns.

    See Also
    --------
    build_graphs : several slices at once.
    stgraph.graph.slots.read_slots : a graph that squidpy made.

    Examples
    --------
    >>> import stgraph
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0])
    >>> len(graph), graph.unit
    (300, 'um')
    """
    cells, x = cells_and_features(adata, use_rep=use_rep, features=features)
    return graph_of(cells, x, builder=builder, virtual_cells=virtual_cells)


def build_graphs(
    slices: AnnData | Sequence[AnnData],
    *,
    slice_key: str | None = None,
    builder: GraphBuilder = _DEFAULT_BUILDER,
    virtual_cells: VirtualCellBuilder | None = _DEFAULT_VIRTUAL,
    use_rep: str | None = None,
) -> dict[str, SliceGraph]:
    """Build the graph of each tissue section; no edge crosses from one to another.

    Parameters
    ----------
    slices
        One AnnData or several, each with one section or several. They are not changed.
    slice_key
        Column of ``obs`` that names the section of a cell, if the files do not tell.
    builder, virtual_cells
        As in `build_graph`.
    use_rep
        Key of ``obsm`` with the features of the cells. Without it, `LogPCA` is fitted to
        all slices together.

    Returns
    -------
    dict
        Name of the slice to its graph, in the order of the input.

    Raises
    ------
    InputError
        As `build_graph`, and if two slices share a name.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.build import build_graphs
    >>> graphs = build_graphs(stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2))
    >>> {name: len(graph) for name, graph in graphs.items()}
    {'synthetic_0': 200, 'synthetic_1': 200}
    """
    checked = []
    for i, adata in enumerate([slices] if isinstance(slices, AnnData) else slices):
        if use_rep is None:
            cells = ensure_canonical(adata, name=f"slice_{i}", slice_key=slice_key)
        else:
            cells, x = cells_and_features(adata, use_rep=use_rep, name=f"slice_{i}", slice_key=slice_key)
            cells.obsm[_FEATURES] = x  # under a name of its own: use_rep may be "spatial"
        checked.append(cells)
    named = split_slices(checked)
    encoder = LogPCA().fit(list(named.values())) if use_rep is None else None
    return {
        name: graph_of(
            adata,
            adata.obsm[_FEATURES] if encoder is None else encoder.transform(adata),
            builder=builder,
            virtual_cells=virtual_cells,
        )
        for name, adata in named.items()
    }


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
    slice_id = single_slice(adata)
    pos = np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)
    unit = str(adata.uns[_keys.STGRAPH][_keys.UNIT])
    near = build_edges(pos, builder, slice_id, in_microns=unit == "um")
    return assemble(slice_id, x, pos, near, unit=unit, virtual_cells=virtual_cells)


def build_edges(pos: NDArray[np.float64], builder: GraphBuilder, slice_id: str, *, in_microns: bool) -> sp.csr_matrix:
    """Run a builder on the positions of one slice, with errors that name the slice.

    Parameters
    ----------
    pos
        (N, 2) positions.
    builder
        Who is whose neighbour.
    slice_id
        Name of the slice.
    in_microns
        Whether ``pos`` is known to be in microns.

    Returns
    -------
    csr_matrix
        (N, N) edge lengths in the unit of ``pos``.

    Raises
    ------
    InputError
        If the builder needs microns and there are none, or the slice is too small for it.
    """
    if builder.in_microns and not in_microns:
        raise InputError(
            f"{slice_id}: {type(builder).__name__} counts in microns, but the unit of the coordinates is unknown: "
            "give --um-per-unit (um_per_unit=), or use k nearest neighbours."
        )
    try:
        return builder(pos)
    except InputError as error:
        raise InputError(f"{slice_id}: {error}") from error


def assemble(
    slice_id: str,
    x: NDArray[np.floating],
    pos: NDArray[np.float64],
    near: sp.csr_matrix,
    *,
    unit: str,
    virtual_cells: VirtualCellBuilder | None,
) -> SliceGraph:
    """Put cells and edges together, and look at them.

    Parameters
    ----------
    slice_id
        Name of the slice.
    x, pos
        (N, C) features and (N, 2) positions.
    near
        (N, N) edge lengths.
    unit
        Of ``pos`` and ``near``: ``"um"`` or ``"unknown"``.
    virtual_cells
        How cells are grouped into supernodes; None for none.

    Returns
    -------
    SliceGraph
        N cells, their edges, V virtual cells.

    Raises
    ------
    InputError
        If no cell has a neighbour, or all lie at one point.

    Warns
    -----
    StgraphWarning
        If the unit looks wrong, or many cells have no neighbour.
    """
    try:
        nearest = nearest_distances(pos)
    except InputError as error:
        raise InputError(f"{slice_id}: {error}") from error
    if unit == "um":
        warn_of_unit(nearest, slice_id)
    spacing = float(np.median(nearest))
    _check_edges(near, slice_id, spacing, unit)
    return SliceGraph(
        slice_id=slice_id,
        x=np.ascontiguousarray(x, dtype=np.float32),
        pos=pos,
        near=near,
        virtual=None if virtual_cells is None else virtual_cells(x, pos),
        spacing=spacing,
        unit=unit,
    )


def single_slice(adata: AnnData) -> str:
    """Name of the one slice of a canonical AnnData; `InputError` if it holds several."""
    names = adata.obs[_keys.SLICE].astype(str).unique()
    if len(names) != 1:
        raise InputError(
            f"The data hold {len(names)} slices, and a graph never crosses from one to another: "
            "use build_graphs, or split them first with stgraph.io.slices.split_slices([adata])."
        )
    return str(names[0])


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
