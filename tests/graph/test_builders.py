import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stgraph.errors import InputError
from stgraph.graph.builders import KNN, Radius
from stgraph.testing.builders import GraphBuilderContract


class TestKNNContract(GraphBuilderContract):
    make = staticmethod(lambda: KNN(6))


class TestKNNDirectedContract(GraphBuilderContract):
    make = staticmethod(lambda: KNN(6, symmetric=False))


class TestRadiusContract(GraphBuilderContract):
    make = staticmethod(lambda: Radius(30.0))


def knn_by_brute_force(pos, k, symmetric):
    """Neighbours by the definition: everybody no farther than the k-th nearest other cell."""
    distance = np.linalg.norm(pos[:, None] - pos[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    reach = np.sort(distance, axis=1)[:, k - 1]
    near = distance <= reach[:, None] * (1 + 1e-9)
    return near | near.T if symmetric else near


coordinates = st.one_of(
    arrays(float, st.tuples(st.integers(2, 30), st.just(2)), elements=st.floats(-1e5, 1e5, allow_nan=False)),
    # Few places for many cells: coincident cells and ties everywhere.
    arrays(float, st.tuples(st.integers(2, 30), st.just(2)), elements=st.integers(0, 3).map(float)),
    # On a line.
    arrays(float, st.tuples(st.integers(2, 30), st.just(2)), elements=st.integers(0, 50).map(float)).map(
        lambda p: p * [1.0, 0.0]
    ),
)


@given(coordinates, st.integers(1, 8), st.booleans())
def test_knn_is_what_brute_force_finds(pos, k, symmetric):
    k = min(k, len(pos) - 1)
    near = KNN(k, symmetric)(pos)
    expected = knn_by_brute_force(pos, k, symmetric)
    found = np.zeros_like(expected)
    found[np.repeat(np.arange(len(pos)), np.diff(near.indptr)), near.indices] = True
    np.testing.assert_array_equal(found, expected)


@given(coordinates, st.floats(0.5, 1e5))
def test_radius_is_what_brute_force_finds(pos, radius):
    near = Radius(radius)(pos)
    distance = np.linalg.norm(pos[:, None] - pos[None], axis=2)
    # Within rounding of the radius either answer is right.
    clear = np.abs(distance - radius) > 1e-9 * (1 + distance)
    found = np.zeros(distance.shape, dtype=bool)
    found[np.repeat(np.arange(len(pos)), np.diff(near.indptr)), near.indices] = True
    expected = (distance <= radius) & ~np.eye(len(pos), dtype=bool)
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_ties_of_a_grid_are_all_kept():
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), -1).reshape(-1, 2)
    degree = np.diff(KNN(5, symmetric=False)(grid).indptr)
    assert degree[40] == 8  # four at distance 1; the fifth ties with three more at the diagonal


def test_directed_graph_has_k_neighbours_where_none_tie():
    pos = np.random.default_rng(0).normal(size=(50, 2))
    assert (np.diff(KNN(7, symmetric=False)(pos).indptr) == 7).all()


def test_too_few_cells():
    with pytest.raises(InputError, match=r"has 4 cells, too few for 4 neighbours.*graph.n_neighbors=3"):
        KNN(4)(np.random.default_rng(0).normal(size=(4, 2)))


@pytest.mark.parametrize("make", [lambda: KNN(0), lambda: Radius(0.0), lambda: Radius(float("nan"))])
def test_senseless_parameters(make):
    with pytest.raises(InputError):
        make()
