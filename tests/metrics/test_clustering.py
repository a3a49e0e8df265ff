import numpy as np
import pytest
from sklearn.metrics import (
    adjusted_rand_score,
    completeness_score,
    homogeneity_score,
    normalized_mutual_info_score,
    silhouette_score,
)

from stgraph.errors import InputError
from stgraph.metrics.clustering import clustering_scores, silhouette


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    return rng.normal(size=(120, 3)) + 4 * labels[:, None], labels


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=200)
    labels = np.where(rng.uniform(size=200) < 0.6, truth, rng.integers(7, size=200))
    assert clustering_scores(truth, labels) == pytest.approx(
        {
            "ari": adjusted_rand_score(truth, labels),
            "nmi": normalized_mutual_info_score(truth, labels),
            "homogeneity": homogeneity_score(truth, labels),
            "completeness": completeness_score(truth, labels),
        }
    )


def test_names_of_clusters_do_not_matter_and_shuffled_ones_score_chance():
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=3000)
    renamed = clustering_scores(truth, 7 - 3 * truth)
    assert renamed == pytest.approx(dict.fromkeys(renamed, 1.0))
    shuffled = clustering_scores(truth, rng.permutation(truth))
    assert shuffled == pytest.approx(dict.fromkeys(shuffled, 0.0), abs=0.02)


def test_splitting_clusters_keeps_homogeneity_and_merging_keeps_completeness():
    truth = np.repeat([0, 1, 2, 3], 10)
    split, merged = clustering_scores(truth, np.arange(40)), clustering_scores(truth, truth // 2)
    assert split["homogeneity"] == pytest.approx(1) == merged["completeness"]
    assert merged["homogeneity"] == pytest.approx(0.5)  # one bit of two
    assert split["completeness"] < 0.5
    assert split["ari"] == pytest.approx(0)


def test_one_cluster_on_either_side():
    one = np.zeros(6, dtype=int)
    alike = clustering_scores(one, one)
    assert alike == pytest.approx(dict.fromkeys(alike, 1.0))
    nothing_found = clustering_scores([0, 0, 0, 1, 1, 1], one)
    assert nothing_found == pytest.approx({"ari": 0.0, "nmi": 0.0, "homogeneity": 0.0, "completeness": 1.0})


def test_silhouette_of_all_cells_is_that_of_scikit_learn(blobs):
    assert silhouette(*blobs, max_cells=None) == pytest.approx(silhouette_score(*blobs))
    assert silhouette(*blobs, max_cells=120) == pytest.approx(silhouette_score(*blobs))


def test_silhouette_of_a_draw_depends_on_the_seed_alone(blobs):
    x, labels = blobs
    drawn = [silhouette(x, labels, max_cells=60, random_state=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn == pytest.approx([silhouette(x, labels)] * 3, abs=0.1)
    # 60 cells at a time, none of them twice: twice would lower distances to 0.
    once = np.random.default_rng(0).choice(120, size=60, replace=False)
    assert drawn[0] == pytest.approx(silhouette_score(x[once], labels[once]))


def test_silhouette_is_high_for_planted_clusters_and_none_for_shuffled_ones(blobs):
    x, labels = blobs
    assert silhouette(10 * labels[:, None] + 0.001 * x, labels) > 0.99
    assert silhouette(x, np.random.default_rng(0).permutation(labels)) < 0.05


def test_silhouette_without_another_cluster_is_undefined(blobs):
    x, labels = blobs
    assert np.isnan(silhouette(x, np.zeros_like(labels)))
    assert np.isnan(silhouette(x, np.arange(len(x))))
    assert np.isnan(silhouette(x[:1], labels[:1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clustering_scores([0, 1], [0]), "clustering_scores has 1 labels for 2 cells"),
        (lambda: clustering_scores(["a", "b"], [0, 1]), "truth as integer codes, not <U1"),
        (lambda: clustering_scores([0, 1], [0.0, 1.0]), "labels as integer codes, not float64"),
        (lambda: clustering_scores([], []), "truth of one number for each cell"),
        (lambda: silhouette([[0.0], [np.nan]], [0, 1]), "1 of 2 rows of x hold NaN"),
        (lambda: silhouette([[0.0], [1.0]], [0, 1, 1]), "3 labels for 2 cells"),
        (lambda: silhouette([[0.0], [1.0]], [0, 1], max_cells=1), "max_cells of at least 2, or None for all, not 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
