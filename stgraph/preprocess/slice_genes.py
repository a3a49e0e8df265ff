"""The best name that a slice has for each of its genes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.orthologs import Orthologs


def slice_genes(adata: AnnData, vocabulary: GeneVocabulary, orthologs: Orthologs | None = None) -> list[str]:
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
    ids = ("ensembl_id", "gene_ids") if orthologs else ("human_ensembl_id", "ensembl_id", "gene_ids")
    columns = [_texts(adata.var[column]) for column in ids if column in adata.var]
    columns.append(_texts(adata.var_names))
    if "gene_symbol" in adata.var:
        columns.append(_texts(adata.var["gene_symbol"]))
    if orthologs:
        columns = [orthologs.translate(column) for column in columns]
    names = [next((name for name in of_gene if name), "") for of_gene in zip(*columns, strict=True)]
    known = np.zeros(len(names), dtype=bool)
    for column in columns:
        found = ~known & (vocabulary.find(column, ignore_case=False) >= 0)
        for gene in np.flatnonzero(found):
            names[gene] = column[gene]
        known |= found
    return names


def _texts(column: Iterable[Any]) -> list[str]:
    return ["" if pd.isna(value) else str(value) for value in column]
