"""The features of the cells a graph is built on."""

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.io.read import canonical_cells, ensure_canonical
from stgraph.preprocess.encoder import LogPCA


def cells_and_features(
    adata: AnnData,
    *,
    use_rep: str | None = None,
    features: NDArray[np.floating] | None = None,
    name: str = "slice",
    slice_key: str | None = None,
) -> tuple[AnnData, NDArray[np.floating]]:
    """Check a slice and find the features of its cells.

    Parameters
    ----------
    adata
        Cells; not changed.
    use_rep
        Key of ``obsm`` with the features.
    features
        (N, C) features, instead of ``use_rep``. With neither, the light cell encoder
        `LogPCA` is fitted to the counts; with either, ``X`` may hold anything.
    name
        What to call the slice if nobody has named it.
    slice_key
        Column of ``obs`` that names the section of a cell, if ``adata`` does not tell.

    Returns
    -------
    AnnData
        Canonical positions, unit and slices.
    ndarray
        (N, C) features.

    Raises
    ------
    InputError
        If the slice cannot be used, or the features are missing, given twice or not finite.
    """
    if features is None and use_rep is None:
        canonical = ensure_canonical(adata, name=name, slice_key=slice_key)
        return canonical, LogPCA().fit([canonical]).transform(canonical)
    if features is not None and use_rep is not None:
        raise InputError(f"Features are given twice, as an array and as obsm['{use_rep}']: leave one out.")
    if features is None and use_rep not in adata.obsm:
        raise InputError(f"There is no obsm['{use_rep}'] with features; obsm has: {', '.join(adata.obsm)}.")
    x = _checked(adata.obsm[use_rep] if features is None else features, adata.n_obs)
    return canonical_cells(adata, name=name, slice_key=slice_key), x


def _checked(features: object, n_obs: int) -> NDArray[np.floating]:
    """Features, of an array or a data frame, as numbers of the right shape."""
    if sp.issparse(features):
        raise InputError("Features must be dense, and these are a sparse matrix: give features.toarray().")
    x: NDArray[np.floating] = np.asarray(features)
    if x.ndim != 2 or len(x) != n_obs:
        raise InputError(f"Features must be of shape ({n_obs}, C), not {x.shape}.")
    if x.dtype.kind not in "biuf":
        raise InputError(f"Features must be numbers, not of type {x.dtype}.")
    if bad := int((~np.isfinite(x).all(axis=1)).sum()):
        raise InputError(f"Features must be finite; those of {bad} of {n_obs} cells are not.")
    return x
