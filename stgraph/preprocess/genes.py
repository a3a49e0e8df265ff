"""Which genes slices share, and where they stand in each."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from stgraph.errors import InputError, StgraphWarning


def shared_genes(slices: Sequence[AnnData], *, min_genes: int) -> list[str]:
    """Genes that every slice has, in the order of the first.

    Parameters
    ----------
    slices
        Slices with gene names in ``var_names``.
    min_genes
        Fewest genes to go on with; a smaller panel shared whole is accepted.

    Returns
    -------
    list of str
        The shared genes.

    Raises
    ------
    InputError
        If too few genes are shared.
    """
    shared = slices[0].var_names
    for adata in slices[1:]:
        shared = shared.intersection(adata.var_names, sort=False)
    panels = [adata.n_vars for adata in slices]
    if len(shared) < min(min_genes, *panels):
        example = f"'{slices[0].var_names[0]}' and '{slices[-1].var_names[0]}'"
        raise InputError(
            f"The slices share only {len(shared)} genes (they have {', '.join(map(str, panels))}), fewer than "
            f"{min_genes}: use the same kind of gene name in all (their first are {example}), "
            "or fit them apart."
        )
    if len(shared) < min(panels) / 2:
        warnings.warn(
            f"The slices share {len(shared)} genes, fewer than half of the smallest panel (they have "
            f"{', '.join(map(str, panels))}); are gene names of the same kind in all?",
            StgraphWarning,
            stacklevel=3,
        )
    return [str(gene) for gene in shared]


def align_counts(adata: AnnData, genes: Sequence[str]) -> tuple[sp.csr_matrix, np.ndarray]:
    """Counts of the given genes, in the given order.

    Parameters
    ----------
    adata
        A slice.
    genes
        G gene names.

    Returns
    -------
    counts : csr_matrix
        (N, G); a gene the slice lacks is a column without entries.
    present : ndarray
        (G,) bool, whether the slice has the gene.
    """
    index = pd.Index(adata.var_names).get_indexer(pd.Index(genes))
    present = index >= 0
    counts = sp.csr_matrix(adata.X)[:, index[present]]
    if present.all():
        return counts, present
    column = np.flatnonzero(present).astype(counts.indices.dtype)
    return sp.csr_matrix((counts.data, column[counts.indices], counts.indptr), shape=(adata.n_obs, len(genes))), present
