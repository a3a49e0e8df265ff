import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from stgraph.errors import InputError
from stgraph.graph.expression_neighbors import expression_neighbors


def mixture(n, channels=20, kinds=30, seed=0):
    rng = np.random.default_rng(seed)
    return (2 * rng.normal(size=(kinds, channels)))[rng.integers(0, kinds, n)] + rng.normal(size=(n, channels))


def distances(x, neighbor):
    return np.linalg.norm(x[:, None] - x[neighbor], axis=2)


def brute(x, k):
    distance = cdist(x, x)
    np.fill_diagonal(distance, np.inf)
    return np.sort(distance, axis=1)[:, :k]


@pytest.mark.parametrize("channels", [2, 40])
def test_exact(channels):
    x = mixture(400, channels)
    found = expression_neighbors(x, 7)
    assert found.shape == (400, 7)
    assert found.dtype == np.int64
    np.testing.assert_allclose(distances(x, found), brute(x, 7))


def test_approximate_misses_little():
    x = mixture(16_000).astype(np.float32)
    found = expression_neighbors(x, 10, exact_up_to=0)
    exact = expression_neighbors(x, 10)
    recall = np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]) / 10
    assert recall > 0.97
    assert (found != np.arange(len(x))[:, None]).all()
    assert (np.diff(distances(x, found), axis=1) > -1e-3).all()
    assert all(len(set(row)) == 10 for row in found.tolist())


def test_few_lists_make_it_exact():
    x = mixture(1500)
    found = expression_neighbors(x, 10, exact_up_to=0)  # all lists together are fewer cells than are compared
    np.testing.assert_allclose(distances(x, found), brute(x, 10), rtol=1e-4)


def test_far_from_the_origin():
    x = mixture(1200)
    np.testing.assert_allclose(
        distances(x, expression_neighbors(x + 1e5, 5, exact_up_to=0)), brute(x, 5), rtol=1e-3, atol=1e-3
    )


def test_seed():
    x = mixture(16_000, channels=50, kinds=1)
    runs = [expression_neighbors(x, 5, random_state=seed, exact_up_to=0) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


@given(
    n=st.integers(2, 60),
    k=st.integers(1, 10),
    distinct=st.integers(1, 60),
    exact_up_to=st.sampled_from([0, 1000]),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_never_oneself_never_twice_always_nearest(n, k, distinct, exact_up_to, seed):
    rng = np.random.default_rng(seed)
    k = min(k, n - 1)
    x = rng.normal(size=(distinct, 3))[rng.integers(0, distinct, n)]  # many the same
    found = expression_neighbors(x, k, exact_up_to=exact_up_to)
    assert (found != np.arange(n)[:, None]).all()
    assert all(len(set(row)) == k for row in found.tolist())
    np.testing.assert_allclose(distances(x, found), brute(x, k), atol=1e-3)


def test_one_crowd_of_equal_cells_does_not_make_one_long_list():
    x = np.concatenate([np.zeros((6000, 4)), mixture(500, 4) + 9])
    found = expression_neighbors(x, 10, exact_up_to=0)
    assert (found[:6000] < 6000).all()
    assert all(len(set(row)) == 10 for row in found.tolist())


def test_the_sign_of_an_axis_changes_nothing():
    x = np.concatenate([mixture(30_000, channels=4, kinds=1), np.full((1500, 4), 0.1)])
    found = expression_neighbors(x, 5, exact_up_to=0)
    for signs in ([-1, 1, 1, 1], [1, -1, -1, 1]):
        np.testing.assert_array_equal(expression_neighbors(x * signs, 5, exact_up_to=0), found)


def test_too_few_cells():
    with pytest.raises(InputError, match="Each of 3 cells has at most 2 neighbours"):
        expression_neighbors(np.eye(3), 3)


def test_not_finite():
    with pytest.raises(InputError, match="finite"):
        expression_neighbors(np.array([[0.0], [np.nan], [1.0]]), 1)
