"""Genes that are taken out of slices to see whether the others tell them."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.errors import InputError
from stgraph.preprocess.genes import align_counts

_LEAST_DEPTH = 0.02
"""Depth below which a cell is not scaled up any further, as a share of the median."""


def without_genes(adata: AnnData, genes: Sequence[str]) -> AnnData:
    """A copy of a slice in which no counts of some genes are left.

    Parameters
    ----------
    adata
        Canonical. Layers, components in ``obsm`` and whatever else could hold a trace of the genes
        are left behind. ``obs`` stays, for slices are divided by its columns, and a total count
        may be among them: show a model what `stgraph.tasks.unlabelled.unlabelled` leaves of it.
    genes
        Names; those the slice lacks do not matter.

    Returns
    -------
    AnnData
        With the other genes, positions, ``obs`` and ``uns["stgraph"]``.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.held_out_genes import without_genes
    >>> tissue = stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]
    >>> without_genes(tissue, tissue.var_names[:10]).shape
    (100, 50)
    """
    kept = ~adata.var_names.isin(list(genes))
    return AnnData(
        X=sp.csr_matrix(adata.X)[:, kept],
        obs=adata.obs.copy(),
        var=adata.var.loc[kept].copy(),
        obsm={_keys.SPATIAL: adata.obsm[_keys.SPATIAL]},
        uns={_keys.STGRAPH: dict(adata.uns[_keys.STGRAPH])} if _keys.STGRAPH in adata.uns else {},
    )


def held_out_values(
    adatas: Mapping[str, AnnData], genes: Sequence[str], seen: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Log counts of genes at one depth, where depth is counted over other genes.

    The depth of a cell is its sum over the genes that are seen. Over all genes, the value of a
    held-out gene would change with the counts of the others held out, and a model would need
    them to turn a value back into a count. The median of all slices scales the depth, so that a
    value means the same in each.

    Parameters
    ----------
    adatas
        Slices with counts in ``X``, by name.
    genes
        D names; all slices have them.
    seen
        Genes that depth is counted over; none of ``genes``.

    Returns
    -------
    dict
        (N, D) float64 of each slice.

    Raises
    ------
    InputError
        If a gene is in both lists, or the seen genes have no counts.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from stgraph.preprocess.held_out_genes import held_out_values
    >>> adata = AnnData(np.array([[3.0, 10.0], [3.0, 10.0]]))
    >>> held_out_values({"a": adata}, ["0"], ["1"])["a"].round(3).ravel()
    array([1.386, 1.386])
    """
    both = sorted(set(genes) & set(seen))
    if both:
        raise InputError(f"Genes cannot be seen and held out at once: {', '.join(both[:5])}.")
    depth = {name: _depth(adata, seen) for name, adata in adatas.items()}
    pooled = np.concatenate(list(depth.values()))
    if not pooled.any():
        raise InputError("The genes that are seen have no counts at all, so there is no depth to scale by.")
    median = float(np.median(pooled[pooled > 0]))
    values = {}
    for name, adata in adatas.items():
        factor = median / np.maximum(depth[name], _LEAST_DEPTH * median)
        values[name] = np.log1p(align_counts(adata, genes)[0].toarray() * factor[:, None])
    return values


def detected_genes(adatas: Sequence[AnnData], genes: Sequence[str], *, least_share: float) -> list[str]:
    """Genes with a count in enough cells of every slice.

    Parameters
    ----------
    adatas
        Slices that have all the genes.
    genes
        Names to choose from.
    least_share
        Of the cells of a slice.

    Returns
    -------
    list of str
        In the order of ``genes``.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from stgraph.preprocess.held_out_genes import detected_genes
    >>> detected_genes([AnnData(np.array([[3.0, 0.0], [3.0, 1.0]]))], ["0", "1"], least_share=0.6)
    ['0']
    """
    shares = [np.asarray((align_counts(adata, genes)[0] > 0).mean(axis=0)).ravel() for adata in adatas]
    enough = np.min(shares, axis=0) >= least_share
    return [gene for gene, kept in zip(genes, enough, strict=True) if kept]


def _depth(adata: AnnData, genes: Sequence[str]) -> NDArray[np.float64]:
    return np.asarray(align_counts(adata, genes)[0].sum(axis=1), dtype=np.float64).ravel()
