import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from stgraph.metrics.columns import column_pearson, column_rmse, column_spearman


@pytest.fixture
def pair():
    """More columns than are worked on at a time."""
    rng = np.random.default_rng(0)
    truth = rng.poisson(1.0, size=(40, 150))
    return truth, (truth * rng.normal(size=150) + rng.normal(size=truth.shape)).astype(np.float32)


def test_every_column_agrees_with_scipy(pair):
    truth, predicted = pair
    columns = list(zip(truth.T, predicted.T.astype(float), strict=True))
    np.testing.assert_allclose(column_pearson(*pair), [pearsonr(a, b).statistic for a, b in columns], atol=1e-12)
    np.testing.assert_allclose(column_spearman(*pair), [spearmanr(a, b).statistic for a, b in columns], atol=1e-12)
    np.testing.assert_allclose(column_rmse(*pair), [np.sqrt(np.mean((a - b) ** 2)) for a, b in columns])


def test_a_constant_truth_is_undefined_and_a_constant_prediction_finds_nothing():
    truth = np.array([[0.1, 1.0, 0.1], [0.1, 2.0, 0.1], [0.1, 4.0, 0.1]])
    predicted = np.array([[1.0, 0.3, 0.3], [2.0, 0.3, 0.3], [4.0, 0.3, 0.3]])
    for correlation in (column_pearson, column_spearman):
        np.testing.assert_array_equal(correlation(truth, predicted), [np.nan, 0.0, np.nan])


def test_a_constant_whose_mean_is_rounded_is_a_constant():
    constant, varied = np.full((7, 20), 0.1), np.random.default_rng(0).normal(size=(7, 20))
    np.testing.assert_array_equal(column_pearson(varied, constant), np.zeros(20))
    assert np.isnan(column_pearson(constant, varied)).all()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_pearson_does_not_depend_on_unit_or_origin(pair, scale, shift):
    truth, predicted = pair[0], pair[1].astype(float)
    moved = scale * (predicted + shift)
    np.testing.assert_allclose(column_pearson(truth, moved), column_pearson(*pair), atol=1e-7)


def test_a_correlation_stays_within_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 500))
    assert np.abs(column_pearson(x, 3 * x)).max() <= 1


def test_the_arrays_given_are_left_alone(pair):
    before = [m.copy() for m in pair]
    column_pearson(*pair)
    column_spearman(*pair)
    for kept, now in zip(before, pair, strict=True):
        np.testing.assert_array_equal(kept, now)
