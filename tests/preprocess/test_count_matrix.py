import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData, read_h5ad

from stgraph.errors import InputError
from stgraph.preprocess.count_matrix import count_matrix, counted_genes


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
def test_csr_of_a_known_type_is_not_copied(dtype):
    counts = sp.csr_matrix(np.eye(3, dtype=dtype))
    assert np.shares_memory(count_matrix(counts, "abc").data, counts.data)


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [(bool, np.int32), (np.uint8, np.int32), (np.uint16, np.int32), (np.uint32, np.float64), (np.uint64, np.float64)],
)
def test_other_types_become_one_that_holds_their_numbers(dtype, becomes):
    assert count_matrix(sp.csc_matrix(np.eye(3, dtype=np.float32)).astype(np.float32), "abc").format == "csr"
    matrix = count_matrix(np.eye(3).astype(dtype), "abc")
    assert matrix.dtype == becomes
    np.testing.assert_array_equal(matrix.toarray(), np.eye(3))


@pytest.mark.parametrize("form", [sp.csr_matrix, np.asarray], ids=["csr", "dense"])
def test_counts_of_an_open_file(tmp_path, form):
    counts = np.arange(6, dtype=np.float32).reshape(2, 3)
    AnnData(form(counts)).write_h5ad(tmp_path / "a.h5ad")
    backed = read_h5ad(tmp_path / "a.h5ad", backed="r")
    try:
        np.testing.assert_array_equal(count_matrix(backed.X, "abc").toarray(), counts)
        np.testing.assert_array_equal(count_matrix(backed[[1]].X, "abc").toarray(), counts[[1]])
    finally:
        backed.file.close()


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, -np.inf])
def test_what_is_no_count_is_refused(bad):
    with pytest.raises(InputError, match="s1 has values in X that are negative or not finite"):
        count_matrix(np.array([[1.0, bad, 2.0]]), "abc", name="s1")


def test_missing_counts_and_names_are_refused():
    with pytest.raises(InputError, match="s1 has no counts in X"):
        count_matrix(None, "abc", name="s1")
    with pytest.raises(InputError, match="The slice has counts of 3 genes, but 2 names"):
        count_matrix(np.eye(3), "ab")
    assert count_matrix(sp.csr_matrix((0, 3)), "abc").shape == (0, 3)


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_genes_with_counts(form):
    assert counted_genes(form(np.array([[0, 2, 0], [0, 1, 4]]))).tolist() == [False, True, True]
    stored = sp.csr_matrix((np.array([0, 3]), np.array([0, 1]), np.array([0, 2])), shape=(1, 3))
    assert counted_genes(stored).tolist() == [False, True, False]
