"""A probe may read a part of a description, and learn from copies."""

import numpy as np
import pytest

import stgraph
from stgraph.baselines import GenePCA, Joined
from stgraph.errors import InputError
from stgraph.tasks.probe import Probe
from stgraph.tasks.remembered import Remembered
from stgraph.tasks.splits import RandomCells
from stgraph.tasks.target import Target


class Planted:
    """Columns that say the class at the training cells' depth, and sixty that say nothing."""

    unguided = "noise"

    def fit(self, slices):
        self.seen = len(slices)
        return self

    def transform(self, adata):
        noise = np.random.default_rng(1).normal(size=(adata.n_obs, 60))
        return np.concatenate([noise, truth(adata)[:, None] + 0.3 * noise[:, :1]], axis=1).astype(np.float32)

    def views(self):
        return {"noise": slice(0, 60), "signal": slice(60, 61)}


def truth(adata):
    return (adata.obsm["spatial"][:, 0] > np.median(adata.obsm["spatial"][:, 0])).astype(np.int64)


@pytest.fixture
def study():
    adata = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    slices = {"a": adata}
    target = Target("side", "classes", ("left", "right"), {"a": truth(adata)})
    return slices, target, RandomCells(validation_share=0.3).folds(slices)[0]


@pytest.mark.parametrize("wrap", [lambda encoder: encoder, Remembered])
def test_the_view_is_chosen_on_validation_cells(study, wrap):
    slices, target, fold = study
    probe = Probe(wrap(Planted())).learn(slices, target, fold)
    assert probe.read == "signal"
    said = probe.predict(slices["a"]).argmax(axis=1)
    assert (said == target.of["a"])[fold.test["a"]].mean() > 0.9


def test_a_view_can_be_asked_for(study):
    slices, target, fold = study
    probe = Probe(Planted(), view="noise").learn(slices, target, fold)
    assert probe.read == "noise"
    said = probe.predict(slices["a"]).argmax(axis=1)
    assert (said == target.of["a"])[fold.test["a"]].mean() < 0.75
    with pytest.raises(InputError, match="no view 'other'; it has: noise, signal"):
        Probe(Planted(), view="other").learn(slices, target, fold)


def test_heads_learn_from_copies(study):
    """Copies turn the sign of the signal: a head that learns from them too cannot tell the classes."""
    slices, target, fold = study

    class Turned(Planted):
        turned = False

        def transform(self, adata):
            x = super().transform(adata)[:, 60:]
            return -x if adata.uns.get("turned") else x

        def views(self):
            return {"signal": slice(0, 1)}

        def copies(self, adata):
            copy = adata.copy()
            copy.uns["turned"] = True
            return [copy]

    def share_right(encoder):
        said = Probe(encoder).learn(slices, target, fold).predict(slices["a"]).argmax(axis=1)
        return (said == target.of["a"])[fold.test["a"]].mean()

    plain = Planted()
    plain.views = lambda: {"signal": slice(60, 61)}
    assert share_right(plain) > 0.9
    turned = Probe(Turned()).learn(slices, target, fold)
    confidence = turned.predict(slices["a"]).max(axis=1)
    assert confidence.mean() < 0.75


def test_of_joined_encoders_the_better_is_read(study):
    slices, target, fold = study
    joined = Joined({"counts": GenePCA(n_components=3), "planted": Planted()}, unguided="counts")
    probe = Probe(joined).learn(slices, target, fold)
    assert probe.read in ("whole", "planted")
