import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import pearsonr

from stgraph.errors import InputError
from stgraph.metrics.proportions import proportion_scores, proportion_scores_by_type


def two(seed: int, n_cells: int, n_types: int) -> tuple[np.ndarray, np.ndarray]:
    """Proportions, most of them exactly 0."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.5, size=(2, n_cells, n_types)).astype(float)
    counts[..., 0] += 1
    truth, predicted = counts / counts.sum(axis=2, keepdims=True)
    return truth, predicted


@given(seed=st.integers(0, 2**32 - 1), n_cells=st.integers(1, 20), n_types=st.integers(1, 8))
@settings(deadline=None, max_examples=50)
def test_the_divergence_is_the_square_of_scipys_distance(seed, n_cells, n_types):
    truth, predicted = two(seed, n_cells, n_types)
    rows = zip(truth, predicted, strict=True)
    # SciPy takes the root of what rounding may have made negative.
    with np.errstate(invalid="ignore"):
        expected = np.mean([np.nan_to_num(jensenshannon(t, p, base=2)) ** 2 for t, p in rows])
    assert proportion_scores(truth, predicted)["jsd"] == pytest.approx(expected, abs=1e-9)


def test_error_and_correlation():
    truth, predicted = two(0, 50, 4)
    scores, by_type = proportion_scores(truth, predicted), proportion_scores_by_type(truth, predicted)
    correlation = [pearsonr(t, p).statistic for t, p in zip(truth.T, predicted.T, strict=True)]
    np.testing.assert_allclose(by_type["pearson"], correlation)
    np.testing.assert_allclose(by_type["rmse"], np.sqrt(((truth - predicted) ** 2).mean(axis=0)))
    assert scores["pearson"] == pytest.approx(np.mean(correlation))
    assert scores["rmse"] == pytest.approx(np.sqrt(((truth - predicted) ** 2).mean()))
    assert scores["jsd"] == pytest.approx(by_type["jsd"].sum())
    assert (by_type["jsd"] >= 0).all()


def test_the_same_proportions_and_disjoint_ones_are_the_ends_of_the_scale():
    truth, _ = two(1, 20, 3)
    assert proportion_scores(truth, truth) == pytest.approx({"jsd": 0.0, "rmse": 0.0, "pearson": 1.0}, abs=1e-12)
    assert proportion_scores([[1.0, 0.0]], [[0.0, 1.0]])["jsd"] == pytest.approx(1.0)


def test_a_type_of_constant_share_has_no_correlation():
    truth, predicted = np.eye(3)[[0, 1, 0, 1]], np.eye(3)[[0, 1, 1, 2]]
    by_type = proportion_scores_by_type(truth, predicted)
    assert np.isnan(by_type["pearson"]).tolist() == [False, False, True]
    assert proportion_scores(truth, predicted)["pearson"] == pytest.approx(by_type["pearson"][:2].mean())
    assert np.isnan(proportion_scores(truth[:1], predicted[:1])["pearson"])


def test_rounding_of_single_precision_is_no_error():
    truth, predicted = two(2, 20, 5)
    scores = proportion_scores(truth.astype(np.float32), predicted.astype(np.float32) * np.float32(1.0005))
    assert scores == pytest.approx(proportion_scores(truth, predicted), abs=1e-6)


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ([[0.5, 0.5], [2.0, 1.0]], r"1 of 2 rows of predicted are no proportions \(row 1 .* a sum of 3\)"),
        ([[0.5, 0.5], [1.1, -0.1]], r"least share of -0.1 and a sum of 1\): divide non-negative rows by their sums"),
        ([[0.0, 0.0], [1.0, 0.0]], "row 0 has a least share of 0 and a sum of 0"),
        ([[0.5, 0.5], [np.nan, 1.0]], "1 of 2 rows of predicted hold NaN"),
    ],
)
def test_what_is_no_proportion_is_refused(predicted, message):
    truth = [[0.5, 0.5], [1.0, 0.0]]
    with pytest.raises(InputError, match=message):
        proportion_scores(truth, predicted)
    with pytest.raises(InputError, match=message.replace("predicted", "truth")):
        proportion_scores(predicted, truth)
