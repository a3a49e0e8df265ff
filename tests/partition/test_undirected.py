import numpy as np
import pytest
import scipy.sparse as sp

from stgraph.partition.undirected import undirected


def dense(graph):
    weights = np.ones(len(graph.indices)) if graph.weights is None else graph.weights
    return sp.csr_matrix((weights, graph.indices, graph.indptr), shape=(len(graph), len(graph))).toarray()


def entries(matrix):
    """All entries of a dense pattern as CSR, with explicit zeros as values."""
    csr = sp.csr_matrix(matrix)
    csr.data = np.zeros(csr.nnz)
    return csr


@pytest.mark.parametrize("seed", range(10))
def test_sum_of_both_directions(seed):
    rng = np.random.default_rng(seed)
    adjacency = entries(rng.random((9, 9)) < 0.3)
    weights = rng.integers(1, 100, adjacency.nnz)
    half = np.zeros((9, 9))
    half[np.repeat(np.arange(9), np.diff(adjacency.indptr)), adjacency.indices] = weights
    np.fill_diagonal(half, 0)
    np.testing.assert_array_equal(dense(undirected(adjacency, weights)), half + half.T)
    np.testing.assert_array_equal(dense(undirected(adjacency)) > 0, half + half.T > 0)


def symmetric(seed, n=30):
    upper = np.triu(np.random.default_rng(seed).random((n, n)) < 0.2, 1)
    return upper | upper.T


def test_an_undirected_graph_stays_as_it_is():
    adjacency = entries(symmetric(0))
    found = undirected(adjacency)
    assert found.weights is None
    np.testing.assert_array_equal(found.indptr, adjacency.indptr)
    np.testing.assert_array_equal(found.indices, adjacency.indices)
    assert found.indices.dtype == found.indptr.dtype == np.int64
    lengths = np.random.default_rng(1).integers(1, 9, (30, 30))
    row = np.repeat(np.arange(30), np.diff(adjacency.indptr))
    weights = (lengths + lengths.T)[row, adjacency.indices]
    np.testing.assert_array_equal(undirected(adjacency, weights).weights, weights)


@pytest.mark.parametrize("seed", range(8))
def test_one_odd_entry_is_noticed(seed):
    """An edge without its reverse, a loop, or a weight of one direction only."""
    rng = np.random.default_rng(seed)
    pattern = symmetric(seed)
    row, col = np.argwhere(np.triu(~pattern, 1))[rng.integers(20)]
    one_way = pattern.copy()
    one_way[(row, col) if seed % 2 else (col, row)] = True
    found = dense(undirected(entries(one_way)))
    np.testing.assert_array_equal(found, found.T)
    assert found[row, col] == 1
    assert found.max() == 2
    looped = pattern.copy()
    looped[row, row] = True
    np.testing.assert_array_equal(dense(undirected(entries(looped))) > 0, pattern)
    weights = np.ones(pattern.sum(), dtype=np.int64)
    weights[rng.integers(len(weights))] = 5
    found = dense(undirected(entries(pattern), weights))
    np.testing.assert_array_equal(found, found.T)
    assert sorted(np.unique(found)) == [0, 2, 6]


def test_rows_out_of_order_and_repeated_entries():
    unsorted = sp.csr_matrix((np.ones(4), np.array([2, 1, 0, 0]), np.array([0, 2, 3, 4])), shape=(3, 3))
    found = undirected(unsorted)
    assert found.indices.tolist() == [1, 2, 0, 0]
    repeated = sp.csr_matrix((np.ones(3), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    assert undirected(repeated).indices.tolist() == [1, 0]


@pytest.mark.parametrize("n", [0, 1, 5])
def test_no_edges(n):
    assert len(undirected(sp.csr_matrix((n, n))).indices) == 0
    assert len(undirected(entries(np.eye(n))).indices) == 0
