import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

from stgraph.errors import InputError
from stgraph.preprocess.thinning import thin_counts


def test_all_counts_are_kept_at_share_one(tissue):
    thinned = thin_counts(tissue, 1.0)
    assert (thinned.X != tissue.X).nnz == 0
    assert thinned is not tissue
    assert thinned.X is not tissue.X


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.uint16])
def test_what_comes_out_is_counts_of_the_same_type(tissue, dtype):
    tissue.X = tissue.X.astype(dtype)
    before = tissue.X.copy()
    thinned = thin_counts(tissue, 0.3, 1)
    assert isinstance(thinned.X, sp.csr_matrix)
    assert thinned.X.dtype == dtype
    assert (thinned.X > tissue.X).nnz == 0
    assert (thinned.X.data > 0).all()
    assert (before != tissue.X).nnz == 0
    assert thinned.obs.equals(tissue.obs)
    np.testing.assert_array_equal(thinned.obsm["spatial"], tissue.obsm["spatial"])


def test_counts_are_binomial():
    adata = AnnData(sp.csr_matrix(np.full((200, 100), 20, dtype=np.int32)))
    kept = thin_counts(adata, 0.25, 3).X.toarray()
    assert kept.mean() == pytest.approx(5.0, abs=5 * np.sqrt(20 * 0.25 * 0.75 / kept.size))
    assert kept.var() == pytest.approx(20 * 0.25 * 0.75, rel=0.06)


def test_one_seed_one_thinning(tissue):
    first, again, other = (thin_counts(tissue, 0.5, seed).X for seed in (0, 0, 1))
    assert (first != again).nnz == 0
    assert (first != other).nnz > 0


def test_dense_counts_become_sparse(tissue):
    dense = tissue.copy()
    dense.X = tissue.X.toarray()
    assert (thin_counts(dense, 0.5).X != thin_counts(tissue, 0.5).X).nnz == 0


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1, float("nan"), True, "half"])
def test_senseless_shares(tissue, share):
    with pytest.raises(InputError, match=r"thin_counts needs a share of counts above 0 and at most 1"):
        thin_counts(tissue, share)


@pytest.mark.parametrize("value", [0.5, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_what_is_no_count_is_refused(tissue, value, share):
    tissue.X = tissue.X.astype(np.float32)
    tissue.X.data[5] = value
    with pytest.raises(InputError, match=rf"synthetic_0: X holds {value}, which is no count"):
        thin_counts(tissue, share)


def test_no_counts():
    with pytest.raises(InputError, match="X, which is empty"):
        thin_counts(AnnData(obs={"a": [1, 2]}), 0.5)
