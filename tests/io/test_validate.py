import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stgraph.errors import InputError
from stgraph.io.validate import canonical_counts, canonical_positions, check_names


def slice_of(counts, pos=None):
    counts = np.asarray(counts) if not sp.issparse(counts) else counts
    adata = ad.AnnData(counts)
    adata.obsm["spatial"] = np.arange(2.0 * len(adata)).reshape(-1, 2) if pos is None else np.asarray(pos)
    return adata


raw_counts = arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 1000)).filter(
    np.any
)


@given(raw_counts, st.sampled_from(["csr", "csc", "coo", "dense"]), st.sampled_from([np.float32, np.int32, np.int64]))
def test_counts_come_out_as_csr_of_int32_whatever_holds_them(counts, form, dtype):
    given = counts.astype(dtype)
    stored = given if form == "dense" else sp.csr_matrix(given).asformat(form)
    if form == "coo":
        stored = stored.tocsr()
    found = canonical_counts(slice_of(stored), "a")
    assert isinstance(found, sp.csr_matrix)
    assert found.dtype == np.int32
    assert found.has_sorted_indices
    assert (found.data != 0).all()
    np.testing.assert_array_equal(found.toarray(), counts)


def test_the_input_keeps_its_zeros_and_its_order():
    stored = sp.csr_matrix((np.array([2, 0, 1], dtype=np.int32), np.array([2, 1, 0]), np.array([0, 3])), shape=(1, 3))
    adata = slice_of(np.ones((1, 3)))
    adata.X = stored
    before = adata.X.indices.copy(), adata.X.data.copy()
    found = canonical_counts(adata, "a")
    np.testing.assert_array_equal(found.toarray(), [[1, 0, 2]])
    np.testing.assert_array_equal(adata.X.indices, before[0])
    np.testing.assert_array_equal(adata.X.data, before[1])
    assert not np.shares_memory(found.data, adata.X.data)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[1.0, -2.0]], r"negative values \(the least is -2\).*--layer"),
        ([[1.0, 0.25]], r"fractions \(such as 0.25\).*--layer"),
        ([[1.0, np.nan]], "NaN or infinite"),
        ([[1.0, np.inf]], "NaN or infinite"),
        ([[0.0, 0.0]], "all counts in X are zero"),
        ([[3e9, 1.0]], "these are not counts"),
        ([[True, False]], "bool, not numbers"),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_what_is_no_raw_count(counts, message, sparse):
    with pytest.raises(InputError, match=message):
        canonical_counts(slice_of(sp.csr_matrix(counts) if sparse else counts), "a")


def test_a_layer_is_read_and_named_in_messages():
    adata = slice_of([[0.5, 0.5]])
    adata.layers["counts"] = np.array([[1, 2]])
    adata.layers["bad"] = np.array([[1, -2]])
    np.testing.assert_array_equal(canonical_counts(adata, "a", "counts").toarray(), [[1, 2]])
    with pytest.raises(InputError, match=r"layers\['bad'\] holds negative"):
        canonical_counts(adata, "a", "bad")
    with pytest.raises(InputError, match="no layer 'raw'; it has: 'counts', 'bad'"):
        canonical_counts(adata, "a", "raw")
    with pytest.raises(InputError, match="it has: nothing"):
        canonical_counts(slice_of([[1]]), "a", "raw")


def test_empty_x_asks_for_the_layer():
    adata = ad.AnnData(obs={"a": [1, 2]}, layers={"counts": np.ones((2, 3))})
    with pytest.raises(InputError, match=r"X is empty.*--layer"):
        canonical_counts(adata, "a")


@pytest.mark.parametrize(
    ("pos", "message"),
    [
        ([[0.0, 0.0], [np.nan, 1.0]], r"1 cells have NaN.*the first is '1'.*drop"),
        ([[0.0, np.inf], [0.0, 1.0]], r"1 cells have NaN or infinite.*'0'"),
        ([[5.0, 5.0], [5.0, 5.0]], r"all 2 cells lie at one point \(5, 5\)"),
        ([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], r"shape \(2, 3\).*one section at a time"),
        ([[0.0], [1.0]], r"shape \(2, 1\)"),
        ([["a", "b"], ["c", "d"]], "does not hold numbers"),
    ],
)
def test_what_is_no_position(pos, message):
    with pytest.raises(InputError, match=message):
        canonical_positions(slice_of([[1], [1]], pos), "a")


def test_missing_positions_name_what_is_there():
    adata = slice_of([[1], [1]])
    adata.obsm["X_pca"] = adata.obsm.pop("spatial")
    with pytest.raises(InputError, match=r"no obsm\['spatial'\].*obsm has: 'X_pca'"):
        canonical_positions(adata, "a")


def test_positions_are_copied_as_two_columns_of_float64():
    adata = slice_of([[1], [1]], np.array([[0, 1, 7], [2, 3, 7]], dtype=np.int32))
    pos = canonical_positions(adata, "a")
    assert pos.dtype == np.float64
    np.testing.assert_array_equal(pos, [[0, 1], [2, 3]])
    pos[:] = -1
    assert (adata.obsm["spatial"] >= 0).all()


def test_one_cell_may_lie_anywhere():
    np.testing.assert_array_equal(canonical_positions(slice_of([[1]], [[3.0, 4.0]]), "a"), [[3, 4]])


@pytest.mark.filterwarnings("ignore:Observation names are not unique", "ignore:Variable names are not unique")
@pytest.mark.parametrize(("axis", "what"), [("obs_names", "cell"), ("var_names", "gene")])
def test_duplicated_names(axis, what):
    adata = slice_of(np.ones((3, 3)))
    setattr(adata, axis, ["x", "y", "y"])
    with pytest.raises(InputError, match=rf"1 duplicated {what} names \(the first is 'y'\).*{axis}_make_unique"):
        check_names(adata, "a")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_in_it(shape):
    with pytest.raises(InputError, match="there is nothing in it"):
        check_names(slice_of(np.ones(shape)), "a")


def test_the_settings_of_stgraph_train_are_named_too():
    adata = ad.AnnData(np.full((3, 2), 0.5, dtype=np.float32))
    with pytest.raises(InputError, match=r"--layer, data.layer= of stgraph train, layer= in Python"):
        canonical_counts(adata, "a")
