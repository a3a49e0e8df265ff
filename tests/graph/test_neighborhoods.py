import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stgraph.errors import InputError
from stgraph.graph.builders import KNN, Radius
from stgraph.graph.edges import edges_to_csr
from stgraph.graph.joining import SelfLoops
from stgraph.graph.neighborhoods import neighborhoods, neighborhoods_of

coordinates = st.one_of(
    arrays(float, st.tuples(st.integers(2, 30), st.just(2)), elements=st.integers(-(10**6), 10**6).map(float)),
    # Ties and coincident cells everywhere.
    arrays(float, st.tuples(st.integers(2, 30), st.just(2)), elements=st.integers(0, 3).map(float)),
)


def by_brute_force(pos, k, include_self):
    """By distance, then by index, of whole squared distances: no rounding."""
    squared = ((pos[:, None] - pos[None]) ** 2).sum(axis=2)
    rows = []
    for i in range(len(pos)):
        others = sorted((squared[i, j], j) for j in range(len(pos)) if j != i)[:k]
        rows.append([(0.0, i)] * include_self + others)
    table = np.array(rows)
    return table[..., 1].astype(int), np.sqrt(table[..., 0])


@settings(deadline=None)
@given(coordinates, st.integers(1, 8), st.booleans())
def test_brute_force_finds_the_same(pos, k, include_self):
    k = min(k, len(pos) - 1)
    found = neighborhoods(pos, k, include_self=include_self)
    index, distance = by_brute_force(pos, k, include_self)
    assert found.index.dtype == np.int64
    # Whole numbers up to a million: squares differ by more than the tolerance of a tie, or not at all.
    close = np.abs(np.diff(distance, axis=1)) < 2e-9 * distance[:, 1:]
    exact = ~(close & (np.diff(distance, axis=1) > 0)).any(axis=1)
    np.testing.assert_array_equal(found.index[exact], index[exact])
    np.testing.assert_allclose(found.distance, distance, rtol=1e-8)


@pytest.mark.parametrize("k", [8, 16, 32, 64])
def test_sizes_of_aido(k):
    pos = np.random.default_rng(0).uniform(0, 300, (1000, 2))
    found = neighborhoods(pos, k)
    assert found.index.shape == found.distance.shape == (1000, k + 1)
    assert len(found) == 1000
    np.testing.assert_array_equal(found.index[:, 0], np.arange(1000))
    assert (np.diff(found.distance, axis=1) >= 0).all()
    np.testing.assert_allclose(found.distance, np.linalg.norm(pos[:, None] - pos[found.index], axis=2))
    assert not (found.index[:, 1:] == np.arange(1000)[:, None]).any()
    # None that is left out is nearer.
    far = np.sort(np.linalg.norm(pos[:, None] - pos[None], axis=2), axis=1)
    np.testing.assert_allclose(found.distance, far[:, : k + 1])


def test_itself_is_first_among_coincident_cells():
    pos = np.repeat([[0.0, 0.0], [9.0, 9.0]], [50, 3], axis=0)
    found = neighborhoods(pos, 4)
    np.testing.assert_array_equal(found.index[:, 0], np.arange(53))
    np.testing.assert_array_equal(found.index[10], [10, 0, 1, 2, 3])
    np.testing.assert_array_equal(found.index[0], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(found.index[51], [51, 50, 52, 0, 1])


def test_turning_an_array_changes_nothing():
    grid = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2) * 100
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    moved = neighborhoods(grid @ turn.T + 4321.0, 10)
    np.testing.assert_array_equal(neighborhoods(grid, 10).index, moved.index)


@settings(deadline=None)
@given(coordinates, st.integers(1, 8), st.booleans())
def test_of_a_graph_that_has_them(pos, k, include_self):
    k = min(k, len(pos) - 1)
    found = neighborhoods_of(KNN(k, symmetric=False)(pos), k, include_self=include_self)
    expected = neighborhoods(pos, k, include_self=include_self)
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.distance, expected.distance)


def test_of_a_graph_with_few_edges():
    pos = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 0.0], [50.0, 0.0]])
    near = Radius(2.0)(pos)
    found = neighborhoods_of(near, 3)
    np.testing.assert_array_equal(neighborhoods_of(SelfLoops()(near, pos), 3).index, found.index)
    np.testing.assert_array_equal(found.index, [[0, 2, 1, -1], [1, 2, 0, -1], [2, 0, 1, -1], [3, -1, -1, -1]])
    np.testing.assert_array_equal(found.distance[3], [0, np.inf, np.inf, np.inf])
    np.testing.assert_array_equal(found.distance[0], [0, 1, 2, np.inf])


def test_of_a_graph_with_self_loops_and_unsorted_rows():
    pos = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    near = edges_to_csr(pos, np.array([0, 0]), np.array([1, 2]), symmetric=False)
    near = near.tolil()
    near[0, 0] = 7.0
    near = near.tocsr()
    near.indices[:], near.data[:] = [2, 0, 1], [1.0, 7.0, 2.0]
    near.has_sorted_indices = False
    assert neighborhoods_of(near, 2).index[0].tolist() == [0, 2, 1]


def test_what_cannot_be_had():
    with pytest.raises(InputError, match="has 3 cells, too few for 3 neighbours"):
        neighborhoods(np.zeros((3, 2)), 3)
    with pytest.raises(InputError, match="at least 1, not 0"):
        neighborhoods(np.zeros((3, 2)), 0)
    with pytest.raises(InputError, match="at least 1, not 0"):
        neighborhoods_of(Radius(1.0)(np.zeros((3, 2))), 0)
