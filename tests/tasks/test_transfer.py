import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import stgraph
from stgraph.errors import InputError
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.transfer import transfer_labels


@pytest.fixture(scope="module")
def sections():
    return stgraph.synthetic_tissue(n_cells=400, n_genes=100, n_slices=3)


class Planted:
    """One direction for each type of the tissue, and noise; told by name, for a label cannot be seen."""

    def __init__(self, sections):
        rng = np.random.default_rng(0)
        self.of = {}
        for adata in sections:
            codes = adata.obs["cell_type"].cat.codes.to_numpy()
            x = np.eye(12)[codes] * 5 + rng.normal(size=(adata.n_obs, 12)) * 0.3
            self.of |= dict(zip(adata.obs_names, x.astype(np.float32), strict=True))

    def fit(self, slices):
        return self

    def transform(self, adata):
        return np.stack([self.of[name] for name in adata.obs_names])


@pytest.mark.parametrize("head", [None, KNeighborsClassifier(5, weights="distance")])
def test_planted_types_are_carried_over_and_a_missing_one_is_novel(sections, head):
    *reference, query = sections
    frequent = query.obs["cell_type"].value_counts().index[0]
    without = [adata[adata.obs["cell_type"] != frequent].copy() for adata in reference]
    out = transfer_labels(without, query, key="cell_type", encoder=Planted(sections), head=head)
    lacking = (query.obs["cell_type"] == frequent).to_numpy()
    known = query.obs["cell_type"].isin(set(without[0].obs["cell_type"]) & set(without[1].obs["cell_type"])).to_numpy()
    said = out.obs["stgraph_predicted_cell_type"].astype(str).to_numpy()
    assert (said[known] == query.obs["cell_type"].astype(str).to_numpy()[known]).mean() > 0.97
    novelty = out.obs["stgraph_predicted_cell_type_novelty"].to_numpy()
    assert np.median(novelty[lacking]) > 0.95
    # Cells like those of the reference are spread evenly.
    assert np.mean(novelty[known]) == pytest.approx(0.5, abs=0.12)
    assert ((novelty >= 0) & (novelty <= 1)).all()
    entropy, confidence = (
        out.obs["stgraph_predicted_cell_type_entropy"],
        out.obs["stgraph_predicted_cell_type_confidence"],
    )
    assert ((entropy >= 0) & (entropy <= 1)).all()
    assert np.median(entropy[known]) < 0.05
    assert np.median(confidence[known]) > 0.95


def test_labels_of_the_query_are_not_looked_at(sections):
    reference, query = sections[:2]
    bare = query.copy()
    del bare.obs["cell_type"]
    wrong = query.copy()
    wrong.obs["cell_type"] = np.random.default_rng(0).permutation(query.obs["cell_type"])
    outs = [transfer_labels(reference, adata, key="cell_type") for adata in (query, bare, wrong)]
    for out in outs[1:]:
        for column in (
            "stgraph_predicted_cell_type",
            "stgraph_predicted_cell_type_entropy",
            "stgraph_predicted_cell_type_novelty",
        ):
            assert (out.obs[column] == outs[0].obs[column]).all()
    assert "stgraph_predicted_cell_type" not in query.obs
    right = (outs[0].obs["stgraph_predicted_cell_type"].astype(str) == query.obs["cell_type"].astype(str)).mean()
    assert right > 0.4


def test_unlabelled_cells_of_the_reference_teach_nothing(sections):
    reference, query = sections[0].copy(), sections[1]
    labels = reference.obs["cell_type"].astype(object)
    keep = np.arange(400) < 300
    reference.obs["cell_type"] = np.where(keep, labels, None)
    encoder = LogPCA(n_components=5)
    out = transfer_labels(reference, query, key="cell_type", encoder=encoder)
    assert not encoder.genes
    assert set(out.obs["stgraph_predicted_cell_type"]) <= set(labels[keep])


def test_what_cannot_be_transferred_is_said(sections):
    with pytest.raises(InputError, match="needs a reference slice"):
        transfer_labels([], sections[0], key="cell_type")
    with pytest.raises(InputError, match=r"obs\['nix'\] has 0 classes"):
        transfer_labels(sections[0], sections[1], key="nix")


class Apart:
    """A corner of its own for each section, and in it a cell beside its spatial neighbours, as in a mean over them."""

    def __init__(self, sections):
        self.of = {}
        for number, adata in enumerate(sections):
            where = adata.obsm["spatial"] / np.ptp(adata.obsm["spatial"], axis=0)
            x = np.c_[np.tile(np.eye(len(sections))[number] * 3, (adata.n_obs, 1)), where]
            self.of |= dict(zip(adata.obs_names, x.astype(np.float32), strict=True))

    def fit(self, slices):
        return self

    def transform(self, adata):
        return np.stack([self.of[name] for name in adata.obs_names])


def test_a_section_as_far_from_the_reference_as_its_sections_are_from_each_other_is_not_novel(sections):
    *reference, query = sections
    novelty = transfer_labels(reference, query, key="domain", encoder=Apart(sections)).obs[
        "stgraph_predicted_domain_novelty"
    ]
    assert novelty.mean() == pytest.approx(0.5, abs=0.15)
    # A single section cannot tell that.
    alone = transfer_labels(reference[:1], query, key="domain", encoder=Apart(sections))
    assert alone.obs["stgraph_predicted_domain_novelty"].mean() > 0.9
