import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score

from stgraph.errors import InputError
from stgraph.metrics.regression import regression_scores


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    truth = rng.poisson(3.0, size=(80, 4)).astype(float)
    return truth, 0.5 * truth + rng.normal(size=truth.shape)


def test_agrees_with_scipy_and_scikit_learn(pair):
    truth, predicted = pair
    columns = list(zip(truth.T, predicted.T, strict=True))
    assert regression_scores(truth, predicted) == pytest.approx(
        {
            "mae": mean_absolute_error(truth, predicted),
            "pearson": np.mean([pearsonr(t, p).statistic for t, p in columns]),
            "spearman": np.mean([spearmanr(t, p).statistic for t, p in columns]),
            "r2": r2_score(truth, predicted),
            "r2_pooled": r2_score(truth, predicted, multioutput="variance_weighted"),
        }
    )


def test_perfect_shuffled_and_mean_predictions(pair):
    truth, _ = pair
    perfect = {"mae": 0.0, "pearson": 1.0, "spearman": 1.0, "r2": 1.0, "r2_pooled": 1.0}
    assert regression_scores(truth, truth) == pytest.approx(perfect)
    many = np.random.default_rng(1).normal(size=(5000, 3))
    shuffled = regression_scores(many, np.random.default_rng(2).permutation(many))
    assert shuffled["pearson"] == pytest.approx(0, abs=0.05)
    assert shuffled["r2"] == pytest.approx(-1, abs=0.1)
    mean = regression_scores(truth, np.broadcast_to(truth.mean(axis=0), truth.shape))
    assert (mean["pearson"], mean["spearman"]) == (0, 0)
    assert mean["r2"] == mean["r2_pooled"] == pytest.approx(0)


def test_columns_constant_in_truth_count_for_the_error_alone(pair):
    truth, predicted = pair
    without = regression_scores(truth[:, 1:], predicted[:, 1:])
    truth[:, 0] = 0.1  # the variance of this, as computed, is not 0
    scores = regression_scores(truth, predicted)
    assert scores.pop("mae") == pytest.approx(np.abs(truth - predicted).mean())
    assert scores == pytest.approx({name: without[name] for name in scores})


def test_a_constant_truth_has_an_error_and_nothing_else():
    scores = regression_scores(np.full((5, 2), 0.1), np.arange(10.0).reshape(5, 2))
    assert scores.pop("mae") == pytest.approx(4.42)
    assert np.isnan(list(scores.values())).all()


def test_whole_numbers_do_not_overflow():
    truth = np.array([[0], [100], [200]], dtype=np.uint8)
    assert regression_scores(truth, truth[::-1])["mae"] == pytest.approx(400 / 3)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 1)), r"predicted of shape \(3, 2\), cells in rows, not \(3, 1\)"),
        (np.ones(3), np.ones(3), r"truth of shape \(any, any\), cells in rows, not \(3,\)"),
        ([[1.0], [2.0]], [[1.0], [np.inf]], "1 of 2 rows of predicted hold NaN or infinity .the first is row 1."),
        ([["a"]], [[1.0]], "truth as real numbers"),
        ([[1j]], [[1.0]], "truth as real numbers, not complex128"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, predicted, message):
    with pytest.raises(InputError, match=message):
        regression_scores(truth, predicted)
