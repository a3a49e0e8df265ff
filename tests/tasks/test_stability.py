import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from stgraph.errors import InputError
from stgraph.tasks import stability
from stgraph.tasks.clusterers import KMeansClusters
from stgraph.tasks.stability import suggest_from_embeddings, suggest_n_domains

KMEANS = KMeansClusters(n_init=3)


def planted(n_clusters, *, n=240, spread=7.0, seed=1):
    """Clear clusters whose cells lie anywhere."""
    rng = np.random.default_rng(seed)
    centers = np.eye(n_clusters) * spread
    x = centers[rng.integers(n_clusters, size=n)] + rng.normal(size=(n, n_clusters))
    return {"a": x[: n // 2], "b": x[n // 2 :]}, {name: rng.uniform(size=(n // 2, 2)) for name in "ab"}


@pytest.mark.parametrize("n_clusters", [3, 5])
def test_clear_clusters_are_counted(n_clusters):
    found = suggest_from_embeddings(*planted(n_clusters), candidates=[2, 3, 4, 5, 6, 8], clusterer=KMEANS, n_repeats=4)
    assert found.suggested == n_clusters
    row = found.table.set_index("n_domains").loc[n_clusters]
    assert row["agreement"] > 0.95
    assert row["low"] <= row["agreement"] <= row["high"]
    assert row["corrected"] > 0.9
    assert row["chosen"] > 0.9
    assert found.sentence.startswith(f"{n_clusters} domains are the most stable number")
    assert "clearly" in found.sentence


def test_a_cloud_has_no_number_and_the_sentence_says_so():
    rng = np.random.default_rng(0)
    x, pos = {"a": rng.normal(size=(300, 5))}, {"a": rng.uniform(size=(300, 2))}
    found = suggest_from_embeddings(x, pos, candidates=[2, 4, 6], clusterer=KMEANS, n_repeats=4)
    assert found.sentence.startswith("No number of domains is stable")
    assert found.table["corrected"].max() < 0.5


def test_a_long_cloud_is_not_taken_for_two_clusters():
    rng = np.random.default_rng(0)
    x, pos = {"a": rng.normal(size=(300, 3)) * [30, 1, 1]}, {"a": rng.uniform(size=(300, 2))}
    table = suggest_from_embeddings(x, pos, candidates=[2, 3], clusterer=KMEANS, n_repeats=5).table
    # Its halves are stable, and so are those of any long cloud.
    assert table["agreement"].iloc[0] > 0.8
    assert table["corrected"].iloc[0] < 0.6


@pytest.mark.parametrize(
    ("corrected", "chosen", "said"),
    [
        ([0.2, 0.95, 0.3, 0.2], [0.0, 1.0, 0.0, 0.0], "(in 100% of the draws), clearly."),
        ([0.2, 0.7, 0.3, 0.2], [0.0, 1.0, 0.0, 0.0], "3 domains are the most stable number (in 100% of the draws)."),
        (
            [0.2, 0.7, 0.3, 0.6, 0.1],
            [0, 0.7, 0, 0.3, 0],
            "; 5 cannot be told from it; the next peak of the curve is at 5",
        ),
        ([0.2, 0.3], [0.4, 0.6], "; it is the last of the candidates, so look beyond it."),
        ([0.7, 0.6, 0.5], [0.4, 0.3, 0.3], "but hardly more than others; 3 and 4 cannot be told from it."),
    ],
)
def test_the_sentence_says_how_sure_it_is(corrected, chosen, said):
    columns = {"n_domains": np.arange(2, 2 + len(chosen)), "agreement": corrected, "corrected": corrected}
    table = pd.DataFrame({**columns, "chosen": chosen})
    table["agreement"] = 0.6 + 0.4 * table["corrected"]
    assert said in stability._sentence(table, int(np.argmax(corrected)))
    table.loc[int(np.argmin(corrected)), "agreement"] = 1.0
    assert "without the correction for chance it would be" in stability._sentence(table, int(np.argmax(corrected)))


def test_the_curve_is_the_agreement_on_shared_cells():
    found = np.array([[[0, 0, 1, 1, -1], [-1, 0, 1, 1, 1], [1, 0, 0, 0, 1]]])
    agreement = stability._agreements(found)[0]
    assert agreement[0, 1] == 1.0
    assert agreement[2, 0] == agreement[0, 2] == adjusted_rand_score([0, 0, 1, 1], [1, 0, 0, 0])
    assert np.isnan(np.diag(agreement)).all()


def test_subsamples_are_blocks_of_every_slice():
    pos = {name: np.random.default_rng(0).uniform(size=(500, 2)) for name in "ab"}
    kept = stability._subsample(pos, np.random.default_rng(1))
    for name, mask in kept.items():
        assert mask.sum() == 400
        blocks = stability.spatial_blocks(pos[name], n_blocks=25)
        assert all(mask[blocks == block].all() or not mask[blocks == block].any() for block in range(25))


def test_the_reference_has_the_covariance_and_no_clusters():
    x = {"a": planted(3, n=2000)[0]["a"] @ np.array([[1.0, 2, 0], [0, 1, 0], [0, 0, 3]])}
    none = stability._structureless(x, np.random.default_rng(0))["a"]
    np.testing.assert_allclose(np.cov(none.T), np.cov(x["a"].T), atol=4)
    np.testing.assert_allclose(none.mean(axis=0), x["a"].mean(axis=0), atol=0.8)
    wide = {"a": np.random.default_rng(0).normal(size=(5, 20))}
    assert stability._structureless(wide, np.random.default_rng(0))["a"].shape == (5, 20)


def test_large_studies_are_thinned_and_it_is_said():
    found = suggest_from_embeddings(
        *planted(3, n=600), candidates=[2, 3, 4], clusterer=KMEANS, n_repeats=3, max_cells=200
    )
    assert found.suggested == 3
    assert found.sentence.endswith("200 of 600 cells were looked at.")


def test_the_same_seed_gives_the_same_curve_and_another_another():
    a, b, c = (
        suggest_from_embeddings(
            *planted(3, spread=2.0), candidates=[2, 3], clusterer=KMEANS, n_repeats=3, random_state=seed
        ).table
        for seed in (0, 0, 1)
    )
    assert a.equals(b)
    assert not a.equals(c)


def test_from_slices(tissue):
    tissue.obsm["X_mine"] = np.random.default_rng(0).normal(size=(tissue.n_obs, 3))
    found = suggest_n_domains({"a": tissue}, use_rep="X_mine", candidates=[2, 3], clusterer=KMEANS, n_repeats=3)
    assert found.table["n_domains"].tolist() == [2, 3]
    assert np.isnan(found.table["next_agreement"].iloc[-1])
    with pytest.raises(InputError, match="a: obsm has no 'X_stgraph' to cluster; it has: spatial, X_mine"):
        suggest_n_domains({"a": tissue})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": []}, "numbers of domains from 2"),
        ({"candidates": [1, 2]}, "numbers of domains from 2"),
        ({"n_repeats": 2}, "n_repeats of at least 3"),
        ({"max_cells": 10}, "max_cells of at least 100"),
        ({"candidates": [1000]}, "cannot be split into 1000 domains"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        suggest_from_embeddings(*planted(2), clusterer=KMEANS, **arguments)
