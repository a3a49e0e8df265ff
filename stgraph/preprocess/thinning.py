"""Slices with fewer counts, as a shallower sequencing of the same cells would give."""

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from stgraph import _keys
from stgraph.errors import InputError


def thin_counts(adata: AnnData, share: float, random_state: int = 0) -> AnnData:
    """Keep each counted molecule with the same chance: binomial thinning.

    Thinned counts are what the cells would have given at a lower depth, not their scaled
    counts: rare genes are lost, as they are in shallow data.

    Parameters
    ----------
    adata
        A slice with raw counts in ``X``; it is not changed.
    share
        Expected share of the molecules that are kept, above 0 and at most 1; with 1 the
        counts stay as they are.
    random_state
        Seed of who is kept.

    Returns
    -------
    AnnData
        A copy with thinned counts as CSR in ``X``, of the same dtype. Layers and what
        ``obs`` says of depth stay as they were.

    Raises
    ------
    InputError
        If the share is out of range, or ``X`` holds no counts.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.thinning import thin_counts
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> print(round(thin_counts(tissue, 0.25).X.sum() / tissue.X.sum(), 2))
    0.25
    """
    check_share(share, "thin_counts")
    if adata.X is None:
        raise InputError("thin_counts needs raw counts in X, which is empty: put them there first.")
    counts = sp.csr_matrix(adata.X, copy=True)
    _check_counts(counts, adata)
    if share < 1:
        kept = np.random.default_rng(random_state).binomial(counts.data.astype(np.int64), share)
        counts.data = kept.astype(counts.dtype)
        counts.eliminate_zeros()
    thinned = adata.copy()
    thinned.X = counts
    return thinned


def check_share(share: float, who: str) -> None:
    """Refuse a share of counts that is no number above 0 and up to 1.

    Parameters
    ----------
    share
        The share.
    who
        Who asks; named in the error.

    Raises
    ------
    InputError
        If it is something else.

    Examples
    --------
    >>> from stgraph.preprocess.thinning import check_share
    >>> check_share(0.5, "thin_counts")
    """
    number = isinstance(share, int | float | np.number) and not isinstance(share, bool)
    if not (number and 0 < share <= 1):
        raise InputError(f"{who} needs a share of counts above 0 and at most 1, not {share!r}.")


def _check_counts(counts: sp.csr_matrix, adata: AnnData) -> None:
    values = counts.data
    # A NaN is not equal to its own rounding, so it is refused too.
    wrong = (values != np.rint(values)) | (values < 0) | ~np.isfinite(values)
    if wrong.any():
        name = str(adata.obs[_keys.SLICE].iloc[0]) if _keys.SLICE in adata.obs and adata.n_obs else "The slice"
        raise InputError(
            f"{name}: X holds {values[wrong][0]}, which is no count, and only counts can be thinned: "
            "put the raw counts into X."
        )
