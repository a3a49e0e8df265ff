import warnings

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.tasks import clusterers, leiden_clusters
from stgraph.tasks.clusterers import FinderClusters, KMeansClusters, MixtureClusters
from stgraph.tasks.domains import MixtureDomains
from stgraph.tasks.leiden_clusters import LeidenClusters, merge_nearest

FINDER = FinderClusters(MixtureDomains(n_neighbors=0))
ALL = [KMeansClusters(), MixtureClusters(), LeidenClusters(), FINDER]


@pytest.fixture
def study():
    """Two slices of four clear clusters, one of them in the second slice only."""
    rng = np.random.default_rng(0)
    code = {"a": rng.integers(3, size=150), "b": rng.integers(4, size=130)}
    x = {name: np.eye(4, 6)[c] * 12 + rng.normal(size=(len(c), 6)) for name, c in code.items()}
    pos = {name: rng.uniform(size=(len(c), 2)) for name, c in code.items()}
    return code, x, pos


@pytest.mark.parametrize("clusterer", ALL, ids=lambda clusterer: clusterer.name)
def test_clear_clusters_are_found_over_slices_together(clusterer, study):
    code, x, pos = study
    found = clusterer(x, pos, 4, random_state=3)
    assert list(found) == ["a", "b"]
    truth, labels = np.concatenate(list(code.values())), np.concatenate(list(found.values()))
    assert adjusted_rand_score(truth, labels) == 1.0
    assert labels.dtype == np.int64
    assert set(labels) == {0, 1, 2, 3}


@pytest.mark.parametrize("clusterer", ALL, ids=lambda clusterer: clusterer.name)
def test_noise_is_clustered_by_chance_at_the_number_and_the_same_again(clusterer, study):
    code, x, pos = study
    rng = np.random.default_rng(1)
    noise = {name: rng.normal(size=values.shape) for name, values in x.items()}
    found, again = (clusterer(noise, pos, 5, random_state=0) for _ in range(2))
    labels = np.concatenate(list(found.values()))
    assert len(np.unique(labels)) == 5
    assert abs(adjusted_rand_score(np.concatenate(list(code.values())), labels)) < 0.1
    np.testing.assert_array_equal(labels, np.concatenate(list(again.values())))


@pytest.mark.parametrize("clusterer", ALL, ids=lambda clusterer: clusterer.name)
def test_a_clusterer_can_be_written_and_read(clusterer):
    assert instantiate(to_config(clusterer)) == clusterer


@pytest.mark.parametrize("clusterer", ALL, ids=lambda clusterer: clusterer.name)
def test_bad_descriptions(clusterer, study):
    _, x, pos = study
    with pytest.raises(InputError, match="280 cells cannot be split into 281 domains"):
        clusterer(x, pos, 281)
    with pytest.raises(InputError, match="same columns"):
        clusterer({"a": x["a"], "b": x["b"][:, :3]}, pos, 2)
    x["a"][3, 1] = np.nan
    with pytest.raises(InputError, match="1 cells have descriptions that are not finite"):
        clusterer(x, pos, 2)


@pytest.mark.parametrize("clusterer", [MixtureClusters(max_cells=100), LeidenClusters(max_cells=100)])
def test_cells_beyond_the_drawn_ones_are_clustered_too(clusterer, study, monkeypatch):
    code, x, pos = study
    sizes = []
    for module, name in ((clusterers, "fit_mixture"), (leiden_clusters, "expression_neighbors")):
        itself = getattr(module, name)

        def spy(x, *args, itself=itself, **kwargs):
            sizes.append(len(x))
            return itself(x, *args, **kwargs)

        monkeypatch.setattr(module, name, spy)
    found = clusterer(x, pos, 4)
    assert sizes == [100]
    assert adjusted_rand_score(code["b"], found["b"]) > 0.95
    assert adjusted_rand_score(code["a"], found["a"]) > 0.95


def test_leiden_says_when_the_number_cannot_be_had(study):
    code, x, pos = study
    # Four pieces of a graph cannot be three communities.
    with pytest.warns(StgraphWarning, match="no resolution with 3 domains: 4 were merged"):
        found = LeidenClusters(n_neighbors=5)({"b": x["b"]}, {"b": pos["b"]}, 3)["b"]
    assert len(np.unique(found)) == 3
    assert adjusted_rand_score(code["b"], found) > 0.5


def test_leiden_says_when_there_are_too_few(study, monkeypatch):
    _, x, pos = study
    monkeypatch.setattr(leiden_clusters, "leiden", lambda graph, **_: np.arange(graph.shape[0]) % 2)
    with pytest.warns(StgraphWarning, match="no resolution with 3 domains: there are 2 only"):
        found = LeidenClusters()(x, pos, 3)
    assert set(found["a"]) == {0, 1}


def test_leiden_is_silent_when_it_can(study):
    _, x, pos = study
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LeidenClusters()(x, pos, 6)


def test_the_nearest_clusters_are_merged_by_the_variance_it_adds():
    # 0 and 1 are nearer to each other than 1 and 2, but 2 is one cell only.
    x = np.array([[0.0]] * 50 + [[1.0]] * 50 + [[2.5]])
    labels = np.repeat([0, 1, 2], [50, 50, 1])
    merged = merge_nearest(x, labels, 2)
    assert merged[60] == merged[100] != merged[0]
    np.testing.assert_array_equal(merge_nearest(x, labels, 3), labels)
    assert merge_nearest(x, labels, 1).tolist() == [0] * 101


def test_the_finder_is_asked_for_the_number_and_the_seed(study):
    _, x, pos = study
    finder = MixtureDomains(n_domains=2, n_neighbors=0)
    found = FinderClusters(finder)(x, pos, 4, random_state=5)
    expected = MixtureDomains(n_domains=4, n_neighbors=0, random_state=5).fit(list(x.values()), list(pos.values()))
    np.testing.assert_array_equal(found["b"], expected.predict(x["b"], pos["b"]))
    assert finder.state() == {}


@pytest.mark.parametrize("cls", [KMeansClusters, MixtureClusters])
def test_arguments(cls):
    with pytest.raises(InputError, match="n_init of at least 1, not 0"):
        cls(n_init=0)
