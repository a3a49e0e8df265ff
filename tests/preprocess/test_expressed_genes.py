from contextlib import nullcontext

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

import stgraph
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.expressed_genes import expressed_genes
from stgraph.preprocess.gene_list import GeneList

GENES = GeneList([f"G{i}" for i in range(12)])


def slice_of(counts, names):
    adata = AnnData(counts)
    adata.var_names = names
    return adata


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_tokens_are_the_genes_with_counts_in_the_order_of_the_list(seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.7, size=(rng.integers(0, 7), 9))
    names = [f"G{i}" for i in rng.choice(12, size=9, replace=False)]
    if rng.random() < 0.5:
        names[2], names[5] = "g7", "other"  # perhaps a second column of G7
    adata = slice_of(sp.csr_matrix(counts.astype(rng.choice(["i4", "f4"]))), names)
    with pytest.warns(StgraphWarning) if "other" in names else nullcontext():
        found = GENES.align_slice(adata)
    cells = expressed_genes(adata, GENES, alignment=found)
    assert len(cells) == len(counts)
    for row, of_cell in enumerate(counts):
        sums = {}
        for name, count in zip(names, of_cell, strict=True):
            if name != "other" and count:
                gene = int(name[1:])
                sums[gene] = sums.get(gene, 0) + count
        own = slice(*cells.indptr[row : row + 2])
        assert dict(zip(cells.tokens[own].tolist(), cells.values[own].tolist(), strict=True)) == sums
        assert (np.diff(cells.tokens[own]) > 0).all()


def test_stored_zeros_and_columns_out_of_order_are_no_tokens():
    indices, data = np.array([3, 0, 2, 1, 1]), np.array([4, 0, 5, 2, 0])
    counts = sp.csr_matrix((data, indices, np.array([0, 4, 5])), shape=(2, 4))
    cells = expressed_genes(slice_of(counts, ["G9", "G3", "G5", "G1"]), GENES)
    assert cells.tokens.tolist() == [1, 3, 5]
    assert cells.values.tolist() == [4, 2, 5]
    assert cells.indptr.tolist() == [0, 3, 3]


def test_many_rows_are_the_same_in_threads(monkeypatch):
    counts = sp.random(5000, 12, density=0.3, format="csr", random_state=0)
    counts.data = np.ceil(counts.data * 5)
    adata = slice_of(counts, list(GENES.genes)[::-1])
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    several = expressed_genes(adata, GENES)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    one = expressed_genes(adata, GENES)
    assert np.array_equal(several.tokens, one.tokens)
    assert np.array_equal(several.values, one.values)
    assert several.values.sum() == counts.sum()


def test_logarithms_are_refused_here_though_a_warning_elsewhere(tissue):
    genes = GeneList.of_slices([tissue])
    assert expressed_genes(tissue, genes).values.sum() == tissue.X.sum()
    tissue.X = tissue.X.astype(np.float32).log1p()
    with pytest.raises(InputError, match=r"synthetic_0 has values in X that look like logarithms of counts"):
        expressed_genes(tissue, genes)


def test_the_alignment_of_another_slice_is_refused(tissue):
    genes = GeneList.of_slices([tissue])
    with pytest.raises(InputError, match="but the alignment is of 79 and 80: align this slice with this list"):
        expressed_genes(tissue, genes, alignment=genes.align(genes.genes[1:]))
    with pytest.raises(InputError, match="The slice has no counts in X"):
        expressed_genes(AnnData(var=tissue.var), genes)


@pytest.mark.real
def test_a_mouse_panel_loses_two_of_its_genes(data_dir):
    vocabulary = data_dir / "gene_vocab"
    genes = GeneList.read(
        vocabulary / "OS_scRNA_gene_index.19264.tsv", ensembl_ids=vocabulary / "geneformer30M_gene_name_id.tsv.gz"
    )
    adata = stgraph.read(next((data_dir / "merfish_hypothalamus").glob("*.h5ad")), slice_key="sample", um_per_unit=1.0)
    with pytest.warns(StgraphWarning, match=r"2 genes with counts, of 135, .* \('Gpr165', 'Krt90'\)"):
        cells = expressed_genes(adata, genes)
    known = ~adata.var_names.isin(["Gpr165", "Krt90"])
    assert cells.values.sum() == adata.X[:, known].sum()
    assert np.array_equal(cells.lengths, np.diff(adata.X[:, known].indptr))
