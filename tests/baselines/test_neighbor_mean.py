import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.baselines import NeighborMean, NeighborPCA, neighbor_mean
from stgraph.baselines.nearest_graphs import mean_over, nearest_graphs
from stgraph.errors import InputError
from stgraph.graph.builders import KNN
from stgraph.preprocess.encoder import LogPCA


@settings(deadline=None)
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


@pytest.mark.parametrize("lattice", [True, False])
def test_one_search_gives_the_graphs_of_several(lattice):
    """Ties at a smaller size are those of a search of its own."""
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), -1).reshape(-1, 2)
    pos = grid if lattice else np.random.default_rng(0).normal(size=(80, 2))
    for k, near in zip((2, 11, 5), nearest_graphs(pos, (2, 11, 5)), strict=True):
        alone = KNN(k, symmetric=False)(pos)
        np.testing.assert_array_equal(near.indptr, alone.indptr)
        np.testing.assert_array_equal(near.indices, alone.indices)
        np.testing.assert_array_equal(near.data, alone.data)


def test_a_mean_without_the_cell_itself():
    pos = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    (near,) = nearest_graphs(pos, [1])
    np.testing.assert_array_equal(
        mean_over(near, np.array([[1.0], [3.0], [8.0]]), include_self=False).ravel(), [3, 1, 3]
    )


def test_blocks_of_cells_are_put_together(monkeypatch):
    rng = np.random.default_rng(0)
    x, pos = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    whole = neighbor_mean(x, pos, n_neighbors=5)
    monkeypatch.setattr("stgraph.baselines.nearest_graphs._BLOCK", 21)
    np.testing.assert_array_equal(neighbor_mean(x, pos, n_neighbors=5), whole)


def test_sizes_stand_side_by_side(slices):
    x = LogPCA(n_components=5, whiten=False).fit(slices).transform(slices[0])
    encoder = NeighborMean(LogPCA(n_components=5, whiten=False), n_neighbors=(4, 12)).fit(slices)
    expected = [neighbor_mean(x, slices[0].obsm["spatial"], n_neighbors=k) for k in (4, 12)]
    np.testing.assert_allclose(encoder.transform(slices[0]), np.concatenate(expected, axis=1), atol=1e-5)


def test_neighbour_pca_is_the_recipe(tissue):
    x = LogPCA(n_components=20, whiten=False).fit([tissue]).transform(tissue)
    expected = neighbor_mean(x, tissue.obsm["spatial"], n_neighbors=30)
    np.testing.assert_allclose(NeighborPCA().fit([tissue]).transform(tissue), expected, atol=1e-5)


def test_the_given_encoder_stays_unfitted(tissue):
    inner = LogPCA(n_components=5)
    NeighborMean(inner).fit([tissue])
    assert inner.genes == []


def test_an_encoder_may_be_a_config(tissue):
    config = {"_target_": "stgraph.preprocess.encoder.LogPCA", "n_components": 3}
    assert NeighborMean(config, [7]).fit([tissue]).transform(tissue).shape == (tissue.n_obs, 3)


@pytest.mark.parametrize("bad", [0, 2.5, True, (), (6, 0), "30"])
def test_senseless_sizes(bad):
    with pytest.raises(InputError, match="NeighborMean needs n_neighbors of whole numbers of at least 1"):
        NeighborMean(n_neighbors=bad)
