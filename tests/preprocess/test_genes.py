import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import InputError
from stgraph.preprocess.genes import align_counts, shared_genes

panels = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


def slice_with(genes, n=3, seed=0):
    counts = np.random.default_rng(seed).poisson(1.0, (n, len(genes)))
    return ad.AnnData(sp.csr_matrix(counts), var=pd.DataFrame(index=pd.Index(list(genes), dtype=object)))


@given(st.lists(panels, min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore:The slices share")
def test_shared_genes_are_those_of_all_in_the_order_of_the_first(lists):
    expected = [gene for gene in lists[0] if all(gene in other for other in lists)]
    if expected:
        assert shared_genes([slice_with(genes) for genes in lists], min_genes=1) == expected
    else:
        with pytest.raises(InputError, match="share only 0 genes"):
            shared_genes([slice_with(genes) for genes in lists], min_genes=1)


def test_a_small_panel_shared_whole_is_accepted():
    assert shared_genes([slice_with("abc"), slice_with("cbade")], min_genes=15) == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"only 2 genes \(they have 3, 3\), fewer than 15.*'a' and 'b'"):
        shared_genes([slice_with("abc"), slice_with("bcd")], min_genes=15)


@given(panels, panels)
def test_counts_are_aligned_by_name(own, asked):
    adata = slice_with(own)
    counts, present = align_counts(adata, asked)
    assert counts.shape == (3, len(asked))
    assert present.tolist() == [gene in own for gene in asked]
    dense = adata.X.toarray()
    for j, gene in enumerate(asked):
        expected = dense[:, own.index(gene)] if gene in own else 0
        np.testing.assert_array_equal(counts.toarray()[:, j], expected)
