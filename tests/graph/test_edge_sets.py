import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.graph import edge_sets
from stgraph.graph.edge_sets import kept, reverse, rows, symmetrize, union


@st.composite
def edge_lists(draw, n=None):
    """Number of nodes, and lengths by edge; zero is a length."""
    n = draw(st.integers(1, 9)) if n is None else n
    node = st.integers(0, n - 1)
    return n, draw(st.dictionaries(st.tuples(node, node), st.integers(0, 3).map(float), max_size=30))


def csr(n, pairs):
    row, col = np.array(list(pairs), dtype=np.int64).reshape(-1, 2).T
    order = np.lexsort((col, row))
    ptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
    return sp.csr_matrix((np.array(list(pairs.values()), dtype=float)[order], col[order], ptr), shape=(n, n))


def as_dict(near):
    near.check_format(full_check=True)
    key = rows(near) * near.shape[0] + near.indices
    assert (np.diff(key) > 0).all()  # sorted, and each edge once
    return dict(zip(zip(rows(near).tolist(), near.indices.tolist(), strict=True), near.data.tolist(), strict=True))


@settings(deadline=None)
@given(st.data(), st.integers(1, 9))
def test_union_has_the_edges_of_either_and_the_lengths_of_the_first(data, n):
    _, one = data.draw(edge_lists(n))
    _, other = data.draw(edge_lists(n))
    assert as_dict(union(csr(n, one), csr(n, other))) == other | one


@settings(deadline=None)
@given(edge_lists(), st.integers(0, 99))
def test_kept_edges_are_a_copy(edge_list, seed):
    near = csr(*edge_list)
    keep = np.random.default_rng(seed).random(near.nnz) < 0.5
    expected = {edge: length for (edge, length), k in zip(as_dict(near).items(), keep, strict=True) if k}
    found = kept(near, keep)
    assert as_dict(found) == expected
    assert not np.shares_memory(found.data, near.data)


@settings(deadline=None)
@given(edge_lists())
def test_the_reverse_of_each_edge(edge_list):
    near = csr(*edge_list)
    edges = list(as_dict(near))
    expected = [edges.index((j, i)) if (j, i) in edges else -1 for i, j in edges]
    assert reverse(near).tolist() == expected


@settings(deadline=None)
@given(edge_lists())
def test_symmetrized_is_the_union_with_the_reverse(edge_list):
    n, pairs = edge_list
    near = csr(n, pairs)
    assert as_dict(symmetrize(near)) == {
        (i, j): pairs.get((min(i, j), max(i, j)), pairs.get((max(i, j), min(i, j))))
        for i, j in pairs.keys() | {(j, i) for i, j in pairs}
    }
    assert as_dict(near) == pairs


def test_symmetrized_lengths_are_kept_and_made_one():
    near = sp.csr_matrix(np.array([[0.0, 5.0, 7.0], [5.5, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    both = symmetrize(near).toarray()
    np.testing.assert_array_equal(both, [[0, 5, 7], [5, 0, 2], [7, 2, 0]])


def test_symmetrize_takes_unsorted_rows_and_other_types():
    near = sp.csr_matrix((np.array([2, 1], dtype=np.int32), np.array([2, 1]), np.array([0, 2, 2, 2])), shape=(3, 3))
    np.testing.assert_array_equal(symmetrize(near).toarray(), [[0, 1, 2], [1, 0, 0], [2, 0, 0]])
    np.testing.assert_array_equal(near.indices, [2, 1])


@pytest.mark.parametrize("join", [symmetrize, lambda near: union(near, near)])
def test_indices_of_64_bits(join, monkeypatch):
    """As for what does not fit into 32."""
    near = csr(3, {(0, 1): 5.0, (2, 0): 0.0})
    expected = as_dict(join(near))
    monkeypatch.setattr(edge_sets, "index_dtype", lambda largest: np.int64)
    assert as_dict(join(near)) == expected
