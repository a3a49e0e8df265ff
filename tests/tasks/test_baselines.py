import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.tasks.baselines import neighbor_mean


@given(st.integers(1, 12), st.integers(0, 10_000))
def test_mean_over_the_nearest_by_brute_force(k, seed):
    rng = np.random.default_rng(seed)
    x, pos = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    nearest = np.argsort(np.linalg.norm(pos[:, None] - pos, axis=2), axis=1)[:, :k]
    np.testing.assert_allclose(neighbor_mean(x, pos, n_neighbors=k), x[nearest].mean(axis=1), atol=1e-12)


def test_ties_on_a_lattice_are_all_counted():
    grid = np.stack(np.meshgrid(np.arange(7.0), np.arange(7.0)), -1).reshape(-1, 2)
    x = np.random.default_rng(0).normal(size=(49, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    expected = neighbor_mean(x, grid, n_neighbors=4)
    np.testing.assert_allclose(neighbor_mean(x, grid @ turn.T, n_neighbors=4), expected)
    np.testing.assert_allclose(expected[24], x[[24, 17, 23, 25, 31]].mean(axis=0))


def test_coincident_cells_are_neighbours():
    pos = np.array([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]])
    np.testing.assert_allclose(neighbor_mean(np.array([[1.0], [3.0], [50.0]]), pos, n_neighbors=2)[:2], 2.0)


def test_more_neighbours_than_cells_is_the_mean():
    x = np.arange(6.0).reshape(3, 2)
    assert neighbor_mean(x, np.eye(3, 2), n_neighbors=30) == pytest.approx(np.tile(x.mean(axis=0), (3, 1)))
