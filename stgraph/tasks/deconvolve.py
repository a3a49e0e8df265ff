"""The composition of the spots of a slice, from single cells of the same kind of tissue."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.preprocess.genes import align_counts, shared_genes
from stgraph.tasks.deconvolver import Deconvolver
from stgraph.tasks.pseudo_spots import PROPORTIONS
from stgraph.tasks.signature_poisson import SignaturePoisson
from stgraph.tasks.target import label_target

MIN_SHARED_GENES = 10
"""Fewest genes that cells and spots may share."""


def deconvolve(spots: AnnData, reference: AnnData, key: str, *, method: Deconvolver | None = None) -> AnnData:
    """Share of each cell type in each spot.

    Parameters
    ----------
    spots
        One canonical slice; it is not changed.
    reference
        Single cells with counts in ``X``, from a slice or dissociated; positions are not looked
        at.
    key
        Column of its ``obs`` with the types; cells without one are left out.
    method
        How signatures become shares, None for `stgraph.tasks.signature_poisson.SignaturePoisson`
        with an effect of the platform on each gene: for cells of the platform of the spots,
        give it with ``platform_rounds=0``. It is copied.

    Returns
    -------
    AnnData
        A copy of the spots with shares (M, K) float64 in ``obsm["stgraph_predicted_proportions"]``, and
        the types in ``uns["stgraph_predicted_proportions"]``.

    Raises
    ------
    InputError
        If the column is not there or has fewer than two types, or too few genes are shared.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.deconvolve import deconvolve
    >>> from stgraph.tasks.pseudo_spots import pseudo_spots
    >>> cells, others = stgraph.synthetic_tissue(n_cells=400, n_genes=60, n_slices=2)
    >>> told = deconvolve(pseudo_spots(cells, "cell_type"), others, "cell_type")
    >>> told.obsm["stgraph_predicted_proportions"].shape[1] == len(told.uns["stgraph_predicted_proportions"])
    True
    """
    types = label_target({"": reference}, key)
    method = SignaturePoisson(platform_rounds=2) if method is None else method
    out = spots.copy()
    slot = _keys.PREDICTION.format(target=PROPORTIONS)
    out.obsm[slot] = shares_in(spots, [reference], [types.of[""].astype(np.int64)], len(types.names), method)
    out.uns[slot] = list(types.names)
    return out


def shares_in(
    spots: AnnData,
    references: Sequence[AnnData],
    codes: Sequence[NDArray[np.int64]],
    n_types: int,
    method: Deconvolver,
) -> NDArray[np.float64]:
    """Shares (M, K), learnt by a copy of the method from all references together, on the genes all have.

    Parameters
    ----------
    spots
        One slice.
    references
        Single cells.
    codes
        (N,) type of the cells of each, -1 for none.
    n_types
        K.
    method
        It is copied.

    Returns
    -------
    ndarray
        (M, K) float64, rows of the simplex.

    Raises
    ------
    InputError
        If too few genes are shared.
    """
    genes = shared_genes([spots, *references], min_genes=MIN_SHARED_GENES)
    cells = sp.vstack([align_counts(adata, genes)[0] for adata in references], format="csr")
    fitted = deepcopy(method).fit(cells, np.concatenate(list(codes)), n_types)
    return fitted.proportions(align_counts(spots, genes)[0], np.asarray(spots.obsm[_keys.SPATIAL], dtype=np.float64))
