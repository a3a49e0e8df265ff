"""What a model may see of a slice: nothing that a label could hide in."""

import hashlib

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from stgraph import _keys


def unlabelled(adata: AnnData) -> AnnData:
    """A slice without annotations: counts, genes, positions, names and ``uns`` only.

    Whatever is said of single cells elsewhere (columns of ``obs``, other ``obsm``, graphs,
    layers) may be the truth in another guise, as a cluster is that follows the annotation. A
    model that never gets it cannot use it, by mistake or otherwise.

    Parameters
    ----------
    adata
        A canonical slice; it is not changed, and its counts are not copied.

    Returns
    -------
    AnnData
        With ``obs["slice_id"]`` and ``obsm["spatial"]`` alone.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.unlabelled import unlabelled
    >>> list(unlabelled(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]).obs)
    ['slice_id']
    """
    kept = [_keys.SLICE] if _keys.SLICE in adata.obs else []
    return AnnData(
        X=adata.X,
        obs=adata.obs[kept].copy(),
        var=adata.var.copy(),
        obsm={_keys.SPATIAL: adata.obsm[_keys.SPATIAL]},
        uns=dict(adata.uns),
    )


def fingerprint(adata: AnnData) -> str:
    """Hash of what `unlabelled` leaves: counts, genes, positions and names, without ``uns``.

    Parameters
    ----------
    adata
        A canonical slice.

    Returns
    -------
    str
        The same for slices that differ in labels alone.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.unlabelled import fingerprint, unlabelled
    >>> tissue = stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]
    >>> fingerprint(tissue) == fingerprint(unlabelled(tissue))
    True
    """
    hasher = hashlib.blake2b(digest_size=16)
    counts = sp.csr_matrix(adata.X)
    for array in (counts.data, counts.indices, counts.indptr, adata.obsm[_keys.SPATIAL]):
        hasher.update(np.ascontiguousarray(array).tobytes())
    names = [adata.var_names, adata.obs_names]
    if _keys.SLICE in adata.obs:
        names.append(adata.obs[_keys.SLICE].astype(str))
    for each in names:
        hasher.update("\n".join(map(str, each)).encode() + b"\0")
    return hasher.hexdigest()
