import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.graph import edges
from stgraph.graph.edges import edges_to_csr, groups_to_csr, table_to_csr, with_lengths


@st.composite
def edge_lists(draw):
    n = draw(st.integers(1, 12))
    pairs = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60))
    # Few places, so that some edges are of length zero.
    pos = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 3, (n, 2)) * 0.1 + 1e3
    row, col = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return pos, row, col


def as_dict(near):
    near.check_format(full_check=True)
    assert near.data.dtype == np.float64
    row = np.repeat(np.arange(near.shape[0]), np.diff(near.indptr))
    key = row * near.shape[0] + near.indices
    assert (np.diff(key) > 0).all()  # sorted, and each edge once
    return dict(zip(zip(row.tolist(), near.indices.tolist(), strict=True), near.data.tolist(), strict=True))


def expected(pos, row, col, symmetric):
    pairs = set(zip(row.tolist(), col.tolist(), strict=True))
    pairs |= {(j, i) for i, j in pairs} if symmetric else set()
    return {(i, j): float(np.linalg.norm(pos[i] - pos[j])) for i, j in pairs if i != j}


@settings(deadline=None)
@given(edge_lists(), st.booleans())
def test_edge_list(edge_list, symmetric):
    pos, row, col = edge_list
    assert as_dict(edges_to_csr(pos, row, col, symmetric=symmetric)) == expected(pos, row, col, symmetric)


@settings(deadline=None)
@given(edge_lists(), st.booleans(), st.integers(0, 9))
def test_cells_under_other_names(edge_list, symmetric, seed):
    pos, row, col = edge_list
    order = np.random.default_rng(seed).permutation(len(pos))
    near = edges_to_csr(pos[order], np.argsort(order)[row], np.argsort(order)[col], symmetric=symmetric, order=order)
    assert as_dict(near) == expected(pos, row, col, symmetric)


def test_long_rows_and_several_threads():
    """A row longer than what is sorted by insertion, and more rows than one thread takes."""
    n = 50_000
    pos = np.random.default_rng(0).uniform(0, 1e4, (n, 2))
    row = np.concatenate([np.zeros(500, dtype=int), np.arange(n)])
    col = np.random.default_rng(1).integers(0, n, len(row))
    near = edges_to_csr(pos, row, col, symmetric=True)
    pairs = np.unique(np.concatenate([row * n + col, col * n + row])[np.tile(row != col, 2)])
    np.testing.assert_array_equal(np.repeat(np.arange(n), np.diff(near.indptr)) * n + near.indices, pairs)
    np.testing.assert_array_equal(near.data, np.linalg.norm(pos[pairs // n] - pos[pairs % n], axis=1))


def test_too_long_edges_are_left_out():
    pos = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    near = groups_to_csr(pos, np.array([0, 3, 3, 3]), np.array([0, 1, 2]), longest=1.0)
    assert as_dict(near) == {(0, 1): 1.0}


def test_table_with_padding():
    pos = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    near = table_to_csr(pos, np.array([[0, 2], [2, -1], [-1, -1]]))
    assert as_dict(near) == {(0, 2): 1.0, (1, 2): 0.0}


def test_lengths_replace_whatever_there_was():
    pattern = sp.csr_matrix((np.array([0.0, 9.0]), np.array([1, 0]), np.array([0, 1, 2])), shape=(2, 2))
    near = with_lengths(pattern, np.array([[0, 0], [3, 4]]))
    assert as_dict(near) == {(0, 1): 5.0, (1, 0): 5.0}
    near.indices[:] = 0
    np.testing.assert_array_equal(pattern.indices, [1, 0])
    np.testing.assert_array_equal(pattern.data, [0, 9])


def test_indices_of_64_bits(monkeypatch):
    """As for what does not fit into 32."""
    monkeypatch.setattr(edges, "index_dtype", lambda largest: np.int64)
    pos = np.random.default_rng(0).random((8, 2))
    row, col = np.nonzero(~np.eye(8, dtype=bool))
    near = edges_to_csr(pos, row, col, symmetric=True)
    assert as_dict(near) == expected(pos, row, col, True)
