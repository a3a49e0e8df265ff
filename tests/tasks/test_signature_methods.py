import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.tasks.poisson_weights import poisson_weights
from stgraph.tasks.signature_nnls import SignatureNNLS
from stgraph.tasks.signature_poisson import SignaturePoisson
from stgraph.tasks.smoothed_poisson import SmoothedPoisson

K, G, M = 5, 60, 40
METHODS = [SignatureNNLS(), SignaturePoisson(), SmoothedPoisson(strength=1e-6)]


@pytest.fixture
def planted():
    """Cells that are exactly the mean of their type, and spots that are exactly mixtures of them."""
    rng = np.random.default_rng(0)
    profiles = rng.gamma(0.4, 3.0, (K, G)) * rng.uniform(0.5, 3, (K, 1))
    cells = rng.poisson(1.5, (M, K)) + (np.arange(K) == rng.integers(0, K, M)[:, None])
    pos = np.indices((8, 5)).reshape(2, M).T * 100.0
    return profiles, cells, pos


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_mixtures_without_noise_are_recovered(planted, method):
    profiles, cells, pos = planted
    types = np.repeat(np.arange(K), 3)
    fitted = method.fit(sp.csr_matrix(profiles[types]), types, K)
    found = fitted.proportions(sp.csr_matrix(cells @ profiles), pos)
    np.testing.assert_allclose(found, cells / cells.sum(axis=1, keepdims=True), atol=2e-3)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_type_without_cells_has_no_share(planted, method):
    profiles, cells, pos = planted
    fitted = method.fit(sp.csr_matrix(profiles), np.arange(K), K + 1)
    found = fitted.proportions(sp.csr_matrix(cells @ profiles), pos)
    assert found.shape == (M, K + 1)
    np.testing.assert_array_equal(found[:, K], 0.0)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_shuffled_signatures_tell_nothing(planted, method):
    profiles, cells, pos = planted
    wrong = profiles[:, np.random.default_rng(1).permutation(G)]
    found = method.fit(sp.csr_matrix(wrong), np.arange(K), K).proportions(sp.csr_matrix(cells @ profiles), pos)
    truth = cells / cells.sum(axis=1, keepdims=True)
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] < 0.4


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_config_there_and_back_and_unfitted(method):
    again = instantiate(to_config(method))
    assert to_config(again) == to_config(method)
    with pytest.raises(InputError, match="was not fitted"):
        again.proportions(sp.csr_matrix(np.ones((9, G))), np.random.default_rng(0).uniform(size=(9, 2)))


def test_weights_are_the_likeliest_as_scipy_finds_them():
    rng = np.random.default_rng(2)
    profiles = rng.gamma(0.5, 2.0, (4, 25))
    counts = rng.poisson(rng.gamma(0.5, 2.0, (6, 4)) @ profiles).astype(float)
    found = poisson_weights(counts, profiles, tolerance=1e-9, max_rounds=2000)

    for row, weights in zip(counts, found, strict=True):

        def loss(w, row=row):
            rate = w @ profiles + 1e-12
            return float((rate - row * np.log(rate)).sum())

        def slope(w, row=row):
            return profiles @ (1 - row / (w @ profiles + 1e-12))

        best = minimize(loss, np.ones(4), jac=slope, bounds=[(0, None)] * 4, method="L-BFGS-B")
        assert loss(weights) <= best.fun + 1e-5


def test_likelihood_never_falls_while_it_is_extrapolated():
    rng = np.random.default_rng(3)
    profiles = rng.gamma(0.5, 2.0, (6, 30))
    profiles[1] = profiles[0] * 1.01 + 0.01  # nearly one signature
    counts = rng.poisson(rng.gamma(0.5, 2.0, (9, 6)) @ profiles).astype(float)

    def likelihood(n):
        rate = poisson_weights(counts, profiles, max_rounds=n, tolerance=0.0) @ profiles + 1e-12
        return (counts * np.log(rate) - rate).sum(axis=1)

    steps = np.stack([likelihood(n) for n in range(1, 40)])
    assert (np.diff(steps, axis=0) >= -1e-7).all()


def test_effect_of_the_platform_is_found(planted):
    profiles, _, pos = planted
    rng = np.random.default_rng(4)
    cells = rng.poisson(1.5, (400, K)) + (np.arange(K) == rng.integers(0, K, 400)[:, None])
    truth = cells / cells.sum(axis=1, keepdims=True)
    spots = sp.csr_matrix(rng.poisson(cells @ profiles * rng.lognormal(0, 0.7, G) * 5))
    reference = sp.csr_matrix(profiles), np.arange(K), K

    def error(rounds):
        found = SignaturePoisson(platform_rounds=rounds).fit(*reference).proportions(spots, pos)
        return np.abs(found - truth).mean()

    assert error(3) < 0.7 * error(0)


def test_neighbours_help_where_counts_are_few():
    rng = np.random.default_rng(5)
    profiles = rng.gamma(0.4, 1.0, (4, 40))
    pos = np.indices((16, 16)).reshape(2, 256).T * 100.0
    truth = np.stack(
        [np.exp(-(((pos - at) / 500) ** 2).sum(axis=1)) for at in ([0, 0], [0, 1500], [1500, 0], [1500, 1500])]
    )
    truth = (truth / truth.sum(axis=0)).T
    spots = sp.csr_matrix(rng.poisson(truth @ profiles * 0.5))
    reference = sp.csr_matrix(profiles), np.arange(4), 4
    errors = [
        np.abs(method.fit(*reference).proportions(spots, pos) - truth).mean()
        for method in (SignaturePoisson(), SmoothedPoisson(0.3))
    ]
    assert errors[1] < 0.8 * errors[0]


def test_spots_without_counts_are_said(planted):
    profiles, cells, pos = planted
    counts = sp.csr_matrix((cells @ profiles) * (np.arange(M) > 1)[:, None])
    for method in METHODS:
        with pytest.warns(StgraphWarning, match="2 of 40 spots have no counts"):
            found = method.fit(sp.csr_matrix(profiles), np.arange(K), K).proportions(counts, pos)
        np.testing.assert_allclose(found[0], found[2:].mean(axis=0), atol=1e-6)


def test_many_spots_are_done_in_blocks(planted, monkeypatch):
    profiles, cells, pos = planted
    method = SignaturePoisson().fit(sp.csr_matrix(profiles), np.arange(K), K)
    spots = sp.csr_matrix(cells @ profiles)
    whole = method.proportions(spots, pos)
    monkeypatch.setattr("stgraph.tasks.signature_poisson._BLOCK", 3 * G)
    np.testing.assert_allclose(method.proportions(spots, pos), whole, atol=1e-6)


def test_bad_settings_are_said():
    with pytest.raises(InputError, match="n_markers of at least 1"):
        SignatureNNLS(n_markers=0)
    with pytest.raises(InputError, match="platform_rounds of at least 0"):
        SignaturePoisson(platform_rounds=-1)
    with pytest.raises(InputError, match="positive strength"):
        SmoothedPoisson(strength=0.0)
