"""The best name that a slice has for each of its genes."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.preprocess.orthologs import Orthologs


class KnowsGenes(Protocol):
    """A vocabulary of genes: `stgraph.preprocess.gene_vocabulary.GeneVocabulary` or `GeneList`."""

    def find(self, genes: Iterable[str], *, ignore_case: bool = True) -> NDArray[np.int64]:
        """Number of each of G genes, -1 where there is none."""
        ...


def slice_genes(adata: AnnData, vocabulary: KnowsGenes, orthologs: Orthologs | None = None) -> list[str]:
    """For each gene of a slice the first of its ids and names that a vocabulary knows.

    Looked at are the columns ``human_ensembl_id``, ``ensembl_id`` and ``gene_ids`` of ``var``, then
    ``var_names``, then ``gene_symbol``; case counts.

    Parameters
    ----------
    adata
        A slice.
    vocabulary
        What should know the names.
    orthologs
        For a slice of another species: applied to each column. Then ``human_ensembl_id`` is not looked at, so
        that the table given decides.

    Returns
    -------
    list of str
        (G,) names. For a gene no name of which is known it is the first there is: the id of a gene that has one,
        so that a vocabulary ignores case only for genes that have a name alone.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from stgraph.preprocess.gene_vocabulary import GeneVocabulary
    >>> from stgraph.preprocess.slice_genes import slice_genes
    >>> adata = AnnData(np.ones((1, 2)))
    >>> adata.var_names, adata.var["ensembl_id"] = ["Actb", "new"], ["ENSG00000075624", ""]
    >>> slice_genes(adata, GeneVocabulary.of_medians({"ENSG00000075624": 10.0}))
    ['ENSG00000075624', 'new']
    """
    columns = name_columns(adata, orthologs)
    names = [next((name for name in of_gene if name), "") for of_gene in zip(*columns, strict=True)]
    known = np.zeros(len(names), dtype=bool)
    for column in columns:
        found = ~known & (vocabulary.find(column, ignore_case=False) >= 0)
        for gene in np.flatnonzero(found):
            names[gene] = column[gene]
        known |= found
    return names


def name_columns(adata: AnnData, orthologs: Orthologs | None = None) -> list[list[str]]:
    """All ids and names a slice has for its genes, in the order `slice_genes` looks at them.

    Parameters
    ----------
    adata, orthologs
        As for `slice_genes`.

    Returns
    -------
    list of list of str
        For each column of names its G names, "" where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from stgraph.preprocess.slice_genes import name_columns
    >>> adata = AnnData(np.ones((1, 2)))
    >>> adata.var_names, adata.var["gene_symbol"] = ["ENSG1", "ENSG2"], ["ACTB", None]
    >>> name_columns(adata)
    [['ENSG1', 'ENSG2'], ['ACTB', '']]
    """
    ids = ("ensembl_id", "gene_ids") if orthologs else ("human_ensembl_id", "ensembl_id", "gene_ids")
    columns = [_texts(adata.var[column]) for column in ids if column in adata.var]
    columns.append(_texts(adata.var_names))
    if "gene_symbol" in adata.var:
        columns.append(_texts(adata.var["gene_symbol"]))
    return [orthologs.translate(column) for column in columns] if orthologs else columns


def _texts(column: Iterable[Any]) -> list[str]:
    return ["" if pd.isna(value) else str(value) for value in column]
