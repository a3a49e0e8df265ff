"""The features of the cells a graph is built on."""

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.io.read import canonical_cells, ensure_canonical
from stgraph.preprocess.encoder import LogPCA


def cells_and_features(
    adata: AnnData, *, use_rep: str | None = None, features: NDArray[np.floating] | None = None, name: str = "slice"
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

    Returns
    -------
    AnnData
        Canonical positions, unit and slices.
    ndarray
        (N, C) features.

    Raises
    ------
    InputError
        If the slice cannot be used, or the features are missing or not finite.
    """
    if features is None and use_rep is None:
        canonical = ensure_canonical(adata, name=name)
        return canonical, LogPCA().fit([canonical]).transform(canonical)
    if features is None:
        if use_rep not in adata.obsm:
            raise InputError(f"There is no obsm['{use_rep}'] with features; obsm has: {', '.join(adata.obsm)}.")
        features = np.asarray(adata.obsm[use_rep])
    if features.ndim != 2 or len(features) != adata.n_obs or not np.isfinite(features).all():
        raise InputError(f"Features must be finite, of shape ({adata.n_obs}, C), not {features.shape}.")
    return canonical_cells(adata, name=name), features
