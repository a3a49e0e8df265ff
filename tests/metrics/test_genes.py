import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.metrics.columns import column_pearson, column_rmse, column_spearman
from stgraph.metrics.genes import gene_scores


def test_scores_of_genes_are_those_of_their_columns():
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=(2, 30, 5))
    scores = gene_scores(truth, predicted)
    assert set(scores) == {"pearson", "spearman", "rmse"}
    for name, of in {"pearson": column_pearson, "spearman": column_spearman, "rmse": column_rmse}.items():
        np.testing.assert_array_equal(scores[name], of(truth, predicted))


def test_a_monotone_prediction_has_the_right_ranks_and_not_the_right_values():
    truth = np.arange(1.0, 9.0)[:, None]
    scores = gene_scores(truth, np.exp(truth))
    assert scores["spearman"] == pytest.approx([1.0])
    assert 0.5 < scores["pearson"][0] < 0.9
    assert scores["rmse"][0] > 100


def test_a_model_cannot_drop_genes_from_its_mean():
    truth = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]])
    honest = gene_scores(truth, np.stack([truth[:, 0], [1.0, 2.0, 1.5]], axis=1))
    silent = gene_scores(truth, np.stack([truth[:, 0], [1.0, 1.0, 1.0]], axis=1))
    assert np.nanmean(silent["pearson"]) == pytest.approx(0.5)
    assert not np.isnan(honest["pearson"]).any()


def test_matrices_of_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"gene_scores needs predicted of shape \(3, 2\), cells in rows, not \(2, 3\)"):
        gene_scores(np.ones((3, 2)), np.ones((2, 3)))
