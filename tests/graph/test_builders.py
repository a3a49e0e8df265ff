import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stgraph._config import instantiate
from stgraph.errors import InputError
from stgraph.graph.builders import KNN, Radius, RadiusByDegree
from stgraph.graph.search import KDTreeSearch
from stgraph.testing.builders import GraphBuilderContract


class TestKNNContract(GraphBuilderContract):
    make = staticmethod(lambda: KNN(6))


class TestKNNDirectedContract(GraphBuilderContract):
    make = staticmethod(lambda: KNN(6, symmetric=False))
    symmetric = False


class TestRadiusContract(GraphBuilderContract):
    make = staticmethod(lambda: Radius(30.0))


class TestRadiusByDegreeContract(GraphBuilderContract):
    make = staticmethod(lambda: RadiusByDegree(7.0))


def distances(pos):
    distance = np.linalg.norm(pos[:, None] - pos[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return distance


def knn_by_brute_force(pos, k, symmetric):
    """Neighbours by the definition: everybody no farther than the k-th nearest other cell."""
    distance = distances(pos)
    reach = np.sort(distance, axis=1)[:, k - 1]
    near = distance <= reach[:, None] * (1 + 1e-9)
    return near | near.T if symmetric else near


def pattern(near):
    found = np.zeros(near.shape, dtype=bool)
    found[np.repeat(np.arange(near.shape[0]), np.diff(near.indptr)), near.indices] = True
    return found


# Squares of smaller numbers are no longer numbers.
numbers = st.floats(-1e5, 1e5, allow_nan=False).map(lambda x: x if abs(x) > 1e-100 else 0.0)
few = st.integers(0, 3).map(float)


def points(elements, most=30):
    return arrays(float, st.tuples(st.integers(2, most), st.just(2)), elements=elements)


@st.composite
def clustered(draw):
    pos = draw(points(st.floats(-1, 1).map(lambda x: round(x, 3))))
    centre = draw(arrays(float, (3, 2), elements=st.floats(-1e4, 1e4)))
    return pos + centre[np.arange(len(pos)) % 3]


coordinates = st.one_of(
    points(numbers),
    clustered(),
    # Few places for many cells: coincident cells and ties everywhere.
    points(few),
    points(few.map(lambda x: x * 1e-6)),
    points(few.map(lambda x: x * 0.1 + 1e6)),
    # On a line.
    points(st.integers(0, 50).map(float)).map(lambda p: p * [1.0, 0.0]),
    points(st.integers(0, 50).map(float)).map(lambda p: p[:, :1] * [0.6, 0.8]),
    arrays(float, (2, 2), elements=numbers),
)


@settings(deadline=None)  # the first example compiles
@given(coordinates, st.integers(1, 8), st.booleans())
def test_knn_is_what_brute_force_finds(pos, k, symmetric):
    k = min(k, len(pos) - 1)
    near = KNN(k, symmetric)(pos)
    expected = knn_by_brute_force(pos, k, symmetric)
    np.testing.assert_array_equal(pattern(near), expected)
    np.testing.assert_array_equal(near.data, distances(pos)[expected])


@settings(deadline=None)  # the first example compiles
@given(coordinates, st.one_of(st.floats(0.5, 1e5), st.floats(1e-7, 3.0), st.sampled_from([1.0, 2.0, 0.1])))
def test_radius_is_what_brute_force_finds(pos, radius):
    near = Radius(radius)(pos)
    expected = distances(pos) <= radius * (1 + 1e-9)
    np.testing.assert_array_equal(pattern(near), expected)
    np.testing.assert_array_equal(near.data, distances(pos)[expected])


@pytest.mark.parametrize("angle", [0.0, 0.1, 0.5, 1.234])
@pytest.mark.parametrize("spacing", [0.1, 7.0, 100.0])
def test_a_radius_of_the_spacing_of_an_array(angle, spacing):
    """Whether a neighbour at the very radius counts is no matter of rounding."""
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2) * spacing
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert Radius(spacing)(grid @ turn.T + 12345.6).nnz == 2 * 2 * 20 * 19


def test_one_far_cell_does_no_harm():
    pos = np.random.default_rng(0).uniform(0, 100, (300, 2))
    for far in (1e6, 1e15):
        with_far = np.vstack([pos, [[far, -far]]])
        assert (Radius(20.0)(with_far)[:300, :300] != Radius(20.0)(pos)).nnz == 0
        assert (KNN(6)(with_far)[:300, :300] != KNN(6)(pos)).nnz == 0


@settings(deadline=None)  # the first example compiles
@given(coordinates, st.floats(0.5, 8))
def test_no_radius_comes_nearer_to_the_mean_degree(pos, mean_degree):
    mean_degree = min(mean_degree, len(pos) - 1)
    found = pattern(RadiusByDegree(mean_degree)(pos)).sum() / len(pos)
    possible = [pattern_at.sum() / len(pos) for pattern_at in (distances(pos) <= r * (1 + 1e-9) for r in radii(pos))]
    assert abs(found - mean_degree) <= min(abs(p - mean_degree) for p in possible) + 1e-12


def radii(pos):
    return np.unique(distances(pos)[~np.eye(len(pos), dtype=bool)])


@pytest.mark.parametrize("n", [300, 6000])
def test_mean_degree_is_met(n):
    rng = np.random.default_rng(n)
    pos = np.concatenate([rng.normal(0, 1, (n // 2, 2)), rng.uniform(-500, 500, (n // 2, 2))])
    assert RadiusByDegree(15)(pos).nnz / n == pytest.approx(15, abs=2 / n)


def test_ties_of_a_grid_are_all_kept():
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), -1).reshape(-1, 2)
    degree = np.diff(KNN(5, symmetric=False)(grid).indptr)
    assert degree[40] == 8  # four at distance 1; the fifth ties with three more at the diagonal


def test_a_large_grid_is_as_a_small_one():
    """Past some size a few cells are tried first."""
    grid = np.stack(np.meshgrid(np.arange(100.0), np.arange(100.0)), -1).reshape(-1, 2)
    inner = ((grid > 3) & (grid < 96)).all(axis=1)
    assert set(np.diff(KNN(18, symmetric=False)(grid).indptr)[inner]) == {20}


def test_directed_graph_has_k_neighbours_where_none_tie():
    pos = np.random.default_rng(0).normal(size=(30_000, 2))
    assert (np.diff(KNN(7, symmetric=False)(pos).indptr) == 7).all()


def test_directed_rows_are_the_cells_own_neighbours():
    near = KNN(1, symmetric=False)(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]))
    np.testing.assert_array_equal(near.toarray(), [[0, 1, 0], [1, 0, 0], [0, 2, 0]])


def test_many_cells_at_one_place():
    """More than one search can return."""
    pos = np.repeat([[0.0, 0.0], [5.0, 0.0]], 40, axis=0)
    for builder in (KNN(3), Radius(1.0), RadiusByDegree(2.0)):
        near = builder(pos)
        assert (np.diff(near.indptr) == 39).all()
        assert (near.data == 0).all()


@pytest.mark.parametrize("builder", [KNN(4), RadiusByDegree(4.0)])
def test_too_few_cells(builder):
    with pytest.raises(InputError, match=r"has 4 cells, too few for .*(n_neighbors|mean_degree)=3"):
        builder(np.random.default_rng(0).normal(size=(4, 2)))


@pytest.mark.parametrize("builder", [KNN(1), Radius(1.0), RadiusByDegree(1.0)])
def test_positions_that_are_none(builder):
    with pytest.raises(InputError, match="cell 1 is not finite"):
        builder(np.array([[0.0, 0.0], [np.nan, 0.0], [1.0, np.inf]]))
    # The squares of distances overflow, and the k-d tree names cells that are not there.
    with pytest.raises(InputError, match=r"cell 1, \[-1e\+300, 0.0\], is no place"):
        builder(np.array([[0.0, 0.0], [-1e300, 0.0], [1.0, 0.0]]))
    with pytest.raises(InputError, match=r"\(N, 2\), not \(4, 3\)"):
        builder(np.zeros((4, 3)))


def test_radius_of_no_cells():
    assert Radius(1.0)(np.zeros((0, 2))).shape == (0, 0)
    assert Radius(1.0)(np.zeros((1, 2))).nnz == 0


def test_the_search_is_part_of_the_config_but_need_not_be_there():
    target = "stgraph.graph.builders.KNN"
    assert instantiate({"_target_": target, "n_neighbors": 3, "symmetric": True}) == KNN(3)
    given_search = {"_target_": "stgraph.graph.search.KDTreeSearch"}
    assert instantiate({"_target_": target, "n_neighbors": 3, "search": given_search}) == KNN(3, search=KDTreeSearch())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KNN(0), "n_neighbors of at least 1, not 0"),
        (lambda: Radius(0.0), "positive radius"),
        (lambda: Radius(float("nan")), "positive radius"),
        (lambda: RadiusByDegree(-1.0), "positive mean_degree"),
        (lambda: RadiusByDegree(float("inf")), "positive mean_degree"),
    ],
)
def test_senseless_parameters(make, message):
    with pytest.raises(InputError, match=message):
        make()
