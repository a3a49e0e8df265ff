import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from stgraph.errors import InputError
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.domains import MixtureDomains, fit_mixture
from stgraph.tasks.scoring import AS_WRITTEN, NEIGHBOR_PCA, OURS, PCA, annotation, score_domains


def test_a_planted_embedding_scores_one_and_a_shuffled_one_chance(slices):
    rng = np.random.default_rng(0)
    adatas = {f"s{i}": adata for i, adata in enumerate(slices)}
    for adata in slices:
        code = pd.factorize(adata.obs["domain"], sort=True)[0]
        adata.obsm["X_stgraph"] = np.eye(7)[code] * 10 + rng.normal(size=(adata.n_obs, 7)) * 0.1
        adata.obs["stgraph_domain"] = pd.Categorical(code.astype(str))
    finder = MixtureDomains(7, n_neighbors=0, n_components=7)
    scores = score_domains(adatas, "domain", finder).set_index(["slice", "method"])["ari"]
    for name in adatas:
        assert scores[name, OURS] == 1.0
        assert scores[name, PCA] < scores[name, NEIGHBOR_PCA] < 1.0
    for adata in slices:
        adata.obsm["X_stgraph"] = rng.permutation(adata.obsm["X_stgraph"])
    shuffled = score_domains(adatas, "domain", finder).set_index(["slice", "method"])["ari"]
    assert max(abs(shuffled[name, OURS]) for name in adatas) < 0.05
    assert shuffled["s0", PCA] == scores["s0", PCA]


def test_written_domains_are_scored_as_they_stand(fitted):
    adatas = fitted.adatas
    scores = score_domains(adatas, "domain", fitted.pretrained.domains)
    for name, adata in adatas.items():
        row = scores[(scores["slice"] == name) & (scores["method"] == AS_WRITTEN)].iloc[0]
        assert row["n_domains"] == 8
        assert row["ari"] == pytest.approx(adjusted_rand_score(adata.obs["domain"], adata.obs["stgraph_domain"]))


def test_missing_labels_are_not_scored(fitted):
    adatas = {name: adata.copy() for name, adata in fitted.adatas.items()}
    first = next(iter(adatas.values()))
    first.obs["domain"] = first.obs["domain"].astype(object)
    first.obs.iloc[:100, first.obs.columns.get_loc("domain")] = np.nan
    scores = score_domains(adatas, "domain", fitted.pretrained.domains)
    assert scores["n_cells"].tolist()[0] == first.n_obs - 100


def test_the_baselines_get_as_many_starts_as_ours(fitted, monkeypatch):
    from stgraph.tasks import domains, scoring

    itself, starts = domains.fit_mixture, []

    def spy(x, n_domains, *, n_init=10, random_state=0):
        starts.append(n_init)
        return itself(x, n_domains, n_init=1, random_state=random_state)

    monkeypatch.setattr(domains, "fit_mixture", spy)
    monkeypatch.setattr(scoring, "fit_mixture", spy)
    score_domains(fitted.adatas, "domain", fitted.pretrained.domains)
    assert starts == [10, 10, 10]


def test_a_continuous_column_is_no_annotation(tissue):
    tissue.obs["depth"] = np.arange(tissue.n_obs) * 0.5
    with pytest.raises(InputError, match="does not look like an annotation"):
        annotation(tissue, "depth", "s")


def test_labels_do_not_reach_the_domains(slices):
    import stgraph
    from stgraph.training.loop import Trainer

    for adata in slices:
        del adata.obs["domain"], adata.obs["cell_type"]
    blind = stgraph.fit(slices, trainer=Trainer(max_steps=2), progress=False)
    assert "stgraph_domain" in blind.adatas["synthetic_0"].obs


def test_annotation(tissue):
    with pytest.raises(InputError, match="no column 'layer' to score against"):
        annotation(tissue, "layer", "s")
    tissue.obs["one"] = "same"
    with pytest.raises(InputError, match="fewer than two classes"):
        annotation(tissue, "one", "s")
    tissue.obs["gaps"] = pd.Categorical(["a", "b"] * (tissue.n_obs // 2 - 1) + [None, "a"])
    assert annotation(tissue, "gaps", "s")[-2:].tolist() == ["", "a"]


def test_the_simple_methods_are_what_they_are_said_to_be(fitted):
    adatas = fitted.adatas
    scores = score_domains(adatas, "domain", fitted.pretrained.domains).set_index(["slice", "method"])["ari"]
    encoder = LogPCA(n_components=20, whiten=False).fit(list(adatas.values()))
    pca = [encoder.transform(adata) for adata in adatas.values()]
    means = []
    for x, adata in zip(pca, adatas.values(), strict=True):
        pos = adata.obsm["spatial"]
        nearest = np.argsort(np.linalg.norm(pos[:, None] - pos, axis=2), axis=1)[:, :30]  # none tie here
        means.append(x[nearest].mean(axis=1))
    for method, features in ((PCA, pca), (NEIGHBOR_PCA, means)):
        mixture = fit_mixture(np.concatenate(features), 7)
        for (name, adata), x in zip(adatas.items(), features, strict=True):
            expected = adjusted_rand_score(adata.obs["domain"], mixture.predict(x))
            assert scores[name, method] == pytest.approx(expected, abs=0.02), method
