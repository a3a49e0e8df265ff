import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.orthologs import Orthologs
from stgraph.preprocess.slice_genes import slice_genes

VOCABULARY = GeneVocabulary.of_medians({"ENSG00000000001": 1.0, "ENSG00000000002": 1.0}, {"ONE": "ENSG00000000001"})


def slice_with(**columns):
    var = pd.DataFrame(columns)
    return ad.AnnData(np.ones((1, len(var))), var=var.set_index("var_names"))


def test_the_first_name_that_is_known_is_taken():
    adata = slice_with(
        var_names=["a", "b", "ONE", "d", "e"],
        gene_symbol=["x", "x", "x", "ONE", "x"],
        ensembl_id=["ENSG00000000001.4", "", "ENSG00000000009", "", "ENSG00000000008"],
        human_ensembl_id=["", "ENSG00000000002", np.nan, "", ""],
    )
    names = slice_genes(adata, VOCABULARY)
    assert names == ["ENSG00000000001.4", "ENSG00000000002", "ONE", "ONE", "ENSG00000000008"]


def test_ids_may_be_categories_or_missing_altogether():
    adata = slice_with(
        var_names=["a", "b"],
        ensembl_id=pd.Categorical(["ENSG00000000002", None]),
        gene_ids=[np.nan, np.nan],
        gene_symbol=pd.Categorical(["x", "ONE"]),
    )
    assert slice_genes(adata, VOCABULARY) == ["ENSG00000000002", "ONE"]


def test_case_is_ignored_only_for_genes_without_an_id():
    adata = slice_with(var_names=["One", "oNE"], ensembl_id=["ENSMUSG00000000001", ""])
    names = slice_genes(adata, VOCABULARY)
    assert names == ["ENSMUSG00000000001", "oNE"]
    assert VOCABULARY.find(names).tolist() == [-1, 2]


def test_orthologs_are_looked_up_for_each_name():
    adata = slice_with(
        var_names=["a", "m2", "c"],
        ensembl_id=["ENSMUSG00000000001.4", "", ""],
        human_ensembl_id=["ENSG00000000002", "", "ENSG00000000002"],
    )
    orthologs = Orthologs({"ENSMUSG00000000001": "ENSG00000000001", "m2": "ENSG00000000002"})
    assert slice_genes(adata, VOCABULARY, orthologs) == ["ENSG00000000001", "ENSG00000000002", "c"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("path", "known"), [("dlpfc/dlpfc_151673.h5ad", 7053), ("osmfish/osmfish_ss_cortex_all6471.h5ad", 32)]
)
def test_real_slices_are_known_by_symbols_and_ids(data_dir, path, known):
    vocabulary = GeneVocabulary.read(data_dir / "gene_vocab")
    adata = ad.read_h5ad(data_dir / path)
    tokens = vocabulary.find(slice_genes(adata, vocabulary), ignore_case=False)
    assert (tokens >= 0).sum() >= known
