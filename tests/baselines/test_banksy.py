import numpy as np
import pytest

from stgraph.baselines import Banksy
from stgraph.baselines.azimuthal import azimuthal_weights
from stgraph.errors import InputError
from stgraph.preprocess.gene_values import LogValues


def by_hand(x, pos, k):
    """Mean and gradient around each cell, neighbour by neighbour."""
    mean, gradient = np.zeros_like(x), np.zeros_like(x)
    for i in range(len(x)):
        distance = np.linalg.norm(pos - pos[i], axis=1)
        order = np.argsort(distance)[1:]
        for size, out in ((k, mean), (2 * k, gradient)):
            near = order[:size]
            weight = np.exp(-((distance[near] / np.median(distance[near])) ** 2))
            weight /= weight.sum()
            if out is mean:
                out[i] = weight @ x[near]
            else:
                dx, dy = (pos[near] - pos[i]).T
                wave = weight * np.exp(1j * np.arctan2(dy, dx))
                out[i] = np.abs(wave @ (x[near] - x[near].mean(axis=0)))
    return mean, gradient


def test_weights_by_brute_force():
    rng = np.random.default_rng(0)
    x, pos = rng.normal(size=(60, 4)), rng.normal(size=(60, 2))
    mean, real, imaginary = azimuthal_weights(pos, 5)
    expected_mean, expected_gradient = by_hand(x, pos, 5)
    np.testing.assert_allclose(mean @ x, expected_mean, atol=1e-6)
    np.testing.assert_allclose(np.hypot(real @ x, imaginary @ x), expected_gradient, atol=1e-6)


@pytest.mark.parametrize("lambda_", [0.2, 0.8])
def test_whole_computation_by_brute_force(slices, lambda_):
    slices = [adata[:, np.ravel(slices[0].X.sum(axis=0)) > 0].copy() for adata in slices]
    values = LogValues().fit(slices)
    raw = []
    for adata in slices:
        (x,) = values.blocks(adata, np.arange(adata.n_vars))
        x = x.astype(np.float64)
        raw.append(np.concatenate([x, *by_hand(x, adata.obsm["spatial"], 6)], axis=1))
    both = np.concatenate(raw)
    share = np.repeat([1 - lambda_, lambda_ / 1.5, lambda_ / 3], slices[0].n_vars)
    scaled = (both - both.mean(axis=0)) / both.std(axis=0) * np.sqrt(share)
    u, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    encoder = Banksy(lambda_, n_neighbors=6, n_components=5).fit(slices)
    found = np.concatenate([encoder.transform(adata) for adata in slices])
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :5] * singular[:5]), atol=1e-3 * singular[0])


def test_the_gradient_is_large_at_a_border_and_small_inside():
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2)
    side = (grid[:, :1] > 9.5).astype(float)
    _, real, imaginary = azimuthal_weights(grid, 8)
    gradient = np.hypot(real @ side, imaginary @ side).ravel()
    inside = (grid > 3).all(axis=1) & (grid < 16).all(axis=1)
    at_border = inside & (np.abs(grid[:, 0] - 9.5) < 1)
    assert gradient[at_border].min() > 0.25
    assert gradient[inside & (np.abs(grid[:, 0] - 9.5) > 5)].max() < 1e-6


def test_without_surroundings_only_own_genes_count(slices):
    encoder = Banksy(0.0, n_components=6).fit(slices)
    moved = slices[0].copy()
    moved.obsm["spatial"] = np.random.default_rng(0).permutation(moved.obsm["spatial"])
    np.testing.assert_allclose(encoder.transform(moved), encoder.transform(slices[0]), atol=1e-4)


def test_coincident_cells_pull_nowhere():
    pos = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    for weights in azimuthal_weights(pos, 2):
        assert np.isfinite(weights.data).all()


@pytest.mark.parametrize("bad", [{"lambda_": 1.5}, {"n_neighbors": 0}, {"n_top_genes": 0}, {"n_components": 0}])
def test_senseless_settings(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Banksy(**bad)
