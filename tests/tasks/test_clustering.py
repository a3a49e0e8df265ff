from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import yaml

import stgraph
from stgraph._config import config_dir, instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.metrics.clustering import clustering_scores
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.clusterers import FinderClusters, KMeansClusters, MixtureClusters
from stgraph.tasks.clustering import Clustering
from stgraph.tasks.domains import MixtureDomains
from stgraph.tasks.leiden_clusters import LeidenClusters
from stgraph.tasks.result import COLUMNS

FAST = (KMeansClusters(n_init=2), MixtureClusters(n_init=1), LeidenClusters(), FinderClusters(MixtureDomains(n_init=1)))


@dataclass
class Planted:
    """Knows the answer by the names of cells, for a task shows it no labels; counts the slices it was fitted on."""

    rows: pd.DataFrame
    seen: int = 0

    def fit(self, slices):
        self.seen = len(slices)
        return self

    def transform(self, adata):
        assert self.seen == 2
        assert list(adata.obs) == ["slice_id"]
        return self.rows.loc[adata.obs_names].to_numpy(dtype=np.float32)


@pytest.fixture
def study(slices):
    return dict(zip("ab", slices, strict=True))


@pytest.fixture
def planted(slices):
    rng = np.random.default_rng(0)
    table = pd.concat([pd.get_dummies(adata.obs["domain"]).astype(float) * 30 for adata in slices])
    return Planted(table + rng.normal(size=table.shape))


def scores(result, metric):
    table = result.table[result.table["metric"] == metric]
    return table.set_index(["slice", "clusterer"])["value"]


def test_a_perfect_description_scores_one_and_a_shuffled_one_chance(study, planted):
    finder = FinderClusters(MixtureDomains(n_neighbors=0, n_init=3))
    task = Clustering(clusterers=[KMeansClusters(), MixtureClusters(), finder], n_restarts=2)
    result = task.run(study, planted)
    assert (scores(result, "ari") == 1).all()
    assert scores(result, "completeness").to_numpy() == pytest.approx(1)
    assert (scores(result, "silhouette") > 0.7).all()
    assert list(result.table.columns) == [*COLUMNS, "clusterer", "n_domains"]
    rng = np.random.default_rng(1)
    planted.rows[:] = rng.permutation(planted.rows.to_numpy())
    shuffled = task.run(study, planted)
    assert (scores(shuffled, "ari").abs() < 0.05).all()
    assert (scores(shuffled, "chaos") > scores(result, "chaos")).all()
    assert (scores(shuffled, "pas") > scores(result, "pas")).all()


def test_the_value_is_the_mean_of_the_restarts_and_the_ends_are_the_extremes(study, planted):
    @dataclass(frozen=True)
    class Draws:
        name: str = "draws"

        def __call__(self, embeddings, positions, n_domains, *, random_state=0):
            rng = np.random.default_rng(random_state)
            found = {name: rng.integers(n_domains, size=len(x)) for name, x in embeddings.items()}
            drawn.append(found)
            return found

    drawn = []
    result = Clustering(clusterers=[Draws()], n_restarts=4).run(study, planted)
    assert len(drawn) == 4
    truth = pd.factorize(study["b"].obs["domain"], sort=True)[0]
    expected = [clustering_scores(truth, labels["b"])["nmi"] for labels in drawn]
    row = result.table[(result.table["slice"] == "b") & (result.table["metric"] == "nmi")].iloc[0]
    assert row["value"] == pytest.approx(np.mean(expected))
    assert (row["low"], row["high"]) == (min(expected), max(expected))
    first = [labels["a"].tolist() for labels in drawn]
    drawn.clear()
    Clustering(clusterers=[Draws()], n_restarts=4).run(study, planted, random_state=1)
    assert all(labels["a"].tolist() not in first for labels in drawn)


def test_the_restart_that_is_shown_is_the_one_most_like_the_others(study, planted):
    @dataclass(frozen=True)
    class Odd:
        name: str = "odd"

        def __call__(self, embeddings, positions, n_domains, *, random_state=0):
            asked.append(random_state)
            order = np.random.default_rng(0).permutation if len(asked) == 1 else np.asarray
            return {name: order(np.arange(len(x)) % n_domains) for name, x in embeddings.items()}

    asked = []
    result = Clustering(clusterers=[Odd()], n_restarts=3).run(study, planted)
    shown = result.adatas["a"].obs["stgraph_cluster_odd"]
    assert shown.astype(int).tolist() == (np.arange(len(shown)) % 7).tolist()
    assert len(set(asked)) == 3
    assert "stgraph_cluster_odd" not in study["a"].obs


def test_each_slice_is_scored_at_its_own_number(study, planted):
    b = study["b"]
    b.obs["domain"] = np.where(b.obs["domain"].isin(["L1", "L2/3"]), "upper", "lower")
    b.obs.loc[b.obs_names[:40], "domain"] = None
    result = Clustering(clusterers=FAST[:1], n_restarts=1).run(study, planted)
    rows = result.table.set_index(["slice", "metric"])
    assert rows.loc[("a", "ari"), "n_domains"] == 7
    assert rows.loc[("b", "ari"), "n_domains"] == 2
    assert rows.loc[("b", "ari"), "n_cells"] == b.n_obs - 40
    assert rows.loc[("b", "pas"), "n_cells"] == b.n_obs
    assert result.adatas["b"].obs["stgraph_cluster_kmeans"].nunique() == 2


def test_a_slice_without_annotation_is_clustered_but_not_scored(study, planted):
    del study["b"].obs["domain"]
    result = Clustering(clusterers=FAST[:1], n_restarts=1).run(study, planted)
    assert set(result.table[result.table["slice"] == "b"]["metric"]) == {"silhouette", "chaos", "pas"}
    assert result.adatas["b"].obs["stgraph_cluster_kmeans"].nunique() == 7
    assert any("b has no annotated domains" in note for note in result.notes)


def test_labels_do_not_reach_the_clusters(study):
    task = Clustering(None, n_domains=7, clusterers=FAST, n_restarts=1)
    blind = task.run(study, LogPCA(n_components=6))
    assert set(blind.table["metric"]) == {"silhouette", "chaos", "pas"}
    seeing = Clustering("domain", clusterers=FAST, n_restarts=1).run(study, LogPCA(n_components=6))
    for clusterer in FAST:
        key = f"stgraph_cluster_{clusterer.name}"
        assert blind.adatas["a"].obs[key].tolist() == seeing.adatas["a"].obs[key].tolist()


def test_a_wide_description_is_reduced_and_said_so(study, planted):
    noise = np.random.default_rng(0).normal(size=(len(planted.rows), 40)) * 0.1
    planted.rows = pd.concat([planted.rows, pd.DataFrame(noise, index=planted.rows.index)], axis=1)
    result = Clustering(clusterers=FAST[:1], n_restarts=1, max_components=6).run(study, planted)
    assert "the description has 47 columns; 6 principal components of it were clustered" in result.notes
    assert (scores(result, "ari") > 0.95).all()


def test_what_a_clusterer_warns_of_is_a_note(study, planted):
    @dataclass(frozen=True)
    class Warns:
        name: str = "warns"

        def __call__(self, embeddings, positions, n_domains, *, random_state=0):
            import warnings

            warnings.warn("not quite", StgraphWarning, stacklevel=1)
            return {name: np.arange(len(x)) % n_domains for name, x in embeddings.items()}

    result = Clustering(clusterers=[Warns()], n_restarts=3).run(study, planted)
    assert "warns: not quite (restarts: 3 of 3)" in result.notes


def test_the_model_that_is_given_stays_as_it_is(study, planted):
    Clustering(clusterers=FAST[:1], n_restarts=1).run(study, planted)
    assert planted.seen == 0


def test_config():
    task = Clustering(clusterers=list(FAST))
    assert instantiate(to_config(task)) == task


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": None}, "needs a key with an annotation, or n_domains"),
        ({"n_domains": 1}, "n_domains of at least 2"),
        ({"n_restarts": 0}, "n_restarts of at least 1"),
        ({"clusterers": [KMeansClusters(), KMeansClusters(2)]}, "names of their own"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        Clustering(**arguments)


def test_the_file_and_the_constructor_say_the_same():
    config = yaml.safe_load((config_dir() / "task" / "clustering.yaml").read_text())
    assert to_config(instantiate(config)) == to_config(Clustering())


MIDDLE = 190.0


def test_the_unguided_view_is_clustered():
    """Where no label can choose, an encoder says which of its columns to take."""
    slices = {"a": stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]}
    side = (slices["a"].obsm["spatial"][:, 0] > MIDDLE).astype(int)
    slices["a"].obs["side"] = np.where(side, "right", "left")

    class Sided:
        unguided = "signal"

        def fit(self, slices):
            return self

        def transform(self, adata):
            noise = 100 * np.random.default_rng(0).normal(size=(adata.n_obs, 3))
            signal = (adata.obsm["spatial"][:, :1] > MIDDLE) * 1.0
            return np.concatenate([noise, signal], axis=1).astype(np.float32)

        def views(self):
            return {"whole": slice(0, 4), "signal": slice(3, 4)}

    table = Clustering("side", clusterers=[KMeansClusters(n_init=2)], n_restarts=1).run(slices, Sided()).table
    assert table.set_index("metric")["value"]["ari"] == 1
