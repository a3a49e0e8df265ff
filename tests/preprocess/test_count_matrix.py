import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData, read_h5ad

from stgraph.errors import InputError
from stgraph.preprocess.count_matrix import check_counts, count_matrix, counted_genes, look_normalised


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


def test_logarithms_are_told_from_counts():
    counts = np.random.default_rng(0).poisson(2.0, size=(50, 20))
    for values, expected in (
        (np.log1p(counts * 100.0), True),
        (np.log1p(counts).astype(np.float32), True),
        (counts, False),
        (counts.astype(np.float32), False),
        (counts * 123.4, False),  # fractions, but large: of a measure of area, say
        (np.zeros((2, 20)), False),
    ):
        assert look_normalised(count_matrix(values, [str(i) for i in range(20)])) is expected


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


def counts_of(seed=0, cells=60, genes=40, mean=2.0):
    return np.random.default_rng(seed).poisson(mean, size=(cells, genes)).astype(np.float64)


def scaled(counts, depth=1e4):
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * depth


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.log1p(counts_of()), r"look like logarithms of counts \(fractions such as 1\.\d+, and none is above 20\)"),
        (np.log2(counts_of() + 1), "look like logarithms of counts"),  # of which many are whole numbers
        (np.log1p(scaled(counts_of())), "are natural logarithms of counts that were scaled to 10000 a cell"),
        (np.log1p(scaled(counts_of())).astype(np.float32), "are natural logarithms of counts that were scaled to 1"),
        (np.log2(scaled(counts_of(), 1e6) + 1), r"are logarithms to base 2 of counts that were scaled to 1e\+06 a"),
        (scaled(counts_of()), r"were scaled so that each cell sums to 10000 \(such as"),
        (scaled(counts_of(), 1.0), "were scaled so that each cell sums to 1 "),
        (np.rint(scaled(counts_of())), "sum to about 10000 in each cell and are hardly ever 1"),
        (scaled(counts_of())[:, :30], r"are no whole numbers \(such as"),
        (counts_of() * 12.3, r"are no whole numbers \(such as .* expected counts, round them"),
        (np.sqrt(counts_of()), "look like logarithms"),
    ],
    ids=range(11),
)
def test_what_is_no_count_is_recognised(values, reason):
    names = [str(i) for i in range(values.shape[1])]
    with pytest.raises(InputError, match=f"s1 has values in X that {reason}.*but raw counts are needed: put these"):
        check_counts(count_matrix(values, names, name="s1"), "s1")


def downsampled(counts, depth):
    rng = np.random.default_rng(1)
    molecules = [np.repeat(np.arange(counts.shape[1]), row.astype(int)) for row in counts]
    taken = [rng.choice(row, size=depth, replace=False) for row in molecules]
    return np.stack([np.bincount(row, minlength=counts.shape[1]) for row in taken])


@pytest.mark.parametrize(
    "values",
    [
        counts_of(),
        counts_of().astype(np.int64),
        counts_of().astype(np.float32),
        (counts_of() > 0).astype(np.int32),
        downsampled(counts_of(mean=4.0), 60),  # a constant depth, but counts
        counts_of(genes=5, mean=300.0),  # few genes of high counts
        np.zeros((3, 4)),
        np.zeros((0, 4)),
        np.full((1, 12), 7),
    ],
    ids=range(9),
)
def test_counts_pass(values):
    check_counts(count_matrix(values, [str(i) for i in range(values.shape[1])]))


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_genes_with_counts(form):
    assert counted_genes(form(np.array([[0, 2, 0], [0, 1, 4]]))).tolist() == [False, True, True]
    stored = sp.csr_matrix((np.array([0, 3]), np.array([0, 1]), np.array([0, 2])), shape=(1, 3))
    assert counted_genes(stored).tolist() == [False, True, False]


@pytest.mark.real
@pytest.mark.parametrize(
    "name", ["dlpfc/dlpfc_151673", "starmap_mvc/starmap_mvc_BY3_1k", "osmfish/osmfish_ss_cortex_all6471"]
)
def test_real_counts_pass(data_dir, name):
    adata = read_h5ad(data_dir / f"{name}.h5ad")
    check_counts(count_matrix(adata.X, adata.var_names))
