"""A canonical slice as Novae wants it: log counts, names of genes, positions in microns."""

import warnings

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.errors import StgraphWarning
from stgraph.graph.spacing import median_spacing, nearest_distances

ARRAY_SPACING_UM = 100.0
"""Microns between spots of an array whose unit is unknown: those of Visium."""

CELL_SPACING_UM = 10.0
"""Microns from a cell to its nearest neighbour where the unit is unknown: those of dense tissue."""

_EVEN = 1.25
"""Most of long (90 %) to short (10 %) distances to the nearest neighbour on an array; of cells it is 2 or more."""


def is_array(pos: NDArray[np.float64]) -> bool:
    """Whether places are spots of a regular array: all are equally far from their nearest neighbour.

    Parameters
    ----------
    pos
        (N, 2) positions, not all the same, in any unit.

    Returns
    -------
    bool
        True for Visium and its like, False for cells where they lie in tissue.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.novae_input import is_array
    >>> is_array(np.array([[x, y] for x in range(5) for y in range(5)], dtype=float))
    True
    >>> is_array(np.random.default_rng(0).uniform(size=(25, 2)))
    False
    """
    short, long = np.quantile(nearest_distances(pos), [0.1, 0.9])
    return bool(long <= _EVEN * short)


def novae_input(adata: AnnData, *, array: bool, symbols: bool = False) -> AnnData:
    """What Novae is given of a slice, and nothing else: no label comes along.

    Counts are divided by the depth of the cell, scaled to the median depth of the slice and ``log1p``
    is taken, as Novae does with counts it recognises; by itself it takes counts that
    are all below ten for logarithms.

    Parameters
    ----------
    adata
        One canonical slice; it is not changed.
    array
        Whether its cells are spots of an array, which says how far apart they are where the unit is unknown.
    symbols
        Name genes by ``var["gene_symbol"]`` where the slice has it, as released weights do; genes
        without a symbol are left out.

    Returns
    -------
    AnnData
        A new one: log counts (N, G) float32 CSR in ``X``, microns in ``obsm["spatial"]``.

    Warns
    -----
    StgraphWarning
        If the unit of the slice is unknown, so that it is scaled to a typical spacing.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.novae_input import novae_input
    >>> made = novae_input(stgraph.synthetic_tissue(n_cells=50, n_genes=60)[0], array=False)
    >>> made.shape, str(made.X.dtype), list(made.obs)
    ((50, 60), 'float32', [])
    """
    names = pd.Index(adata.var_names.astype(str))
    kept = np.ones(adata.n_vars, dtype=bool)
    if symbols and "gene_symbol" in adata.var:
        names = pd.Index(adata.var["gene_symbol"].astype(str).fillna(""))
        kept = ~np.isin(names, ["", "nan"])
    # Novae knows genes by their names in lower case.
    kept &= ~names.str.lower().where(kept).duplicated()
    made = AnnData(
        sp.csr_matrix(adata.X, dtype=np.float32)[:, kept],
        obs=pd.DataFrame(index=pd.RangeIndex(adata.n_obs).astype(str)),
        var=pd.DataFrame(index=names[kept]),
        obsm={_keys.SPATIAL: _microns(adata, array)},
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some cells have zero counts")
        sc.pp.normalize_total(made)
    sc.pp.log1p(made)
    return made


def slice_name(adata: AnnData) -> str:
    """Name of a slice, for messages."""
    return str(adata.obs[_keys.SLICE].iloc[0]) if _keys.SLICE in adata.obs else "The slice"


def _microns(adata: AnnData, array: bool) -> NDArray[np.float64]:
    pos = np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)
    if adata.uns.get(_keys.STGRAPH, {}).get(_keys.UNIT) == "um":
        return pos.copy()
    spacing = ARRAY_SPACING_UM if array else CELL_SPACING_UM
    warnings.warn(
        f"{slice_name(adata)}: Novae needs microns, and the unit of the coordinates is unknown; they are scaled so "
        f"that {'spots' if array else 'cells'} lie {spacing:g} microns apart (the median to the nearest neighbour).",
        StgraphWarning,
        stacklevel=2,
    )
    return np.asarray(pos * (spacing / median_spacing(pos)))
