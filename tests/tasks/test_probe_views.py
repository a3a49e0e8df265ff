"""A probe may read a part of a description, and learn from copies."""

from dataclasses import replace

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


class TwoHalves:
    """Two views that are right about other cells, and one that says nothing."""

    unguided = "first"

    def fit(self, slices):
        return self

    def transform(self, adata):
        rng = np.random.default_rng(2)
        signal = np.where(truth(adata), 1.0, -1.0)[:, None]
        return np.concatenate([signal + rng.normal(size=(adata.n_obs, 2)) * 1.2, rng.normal(size=(adata.n_obs, 5))], 1)

    def views(self):
        return {"first": slice(0, 1), "second": slice(1, 2), "noise": slice(2, 7)}


def big_study(kind="classes"):
    adata = stgraph.synthetic_tissue(n_cells=1500, n_genes=60)[0]
    y = truth(adata)
    target = (
        Target("side", "classes", ("left", "right"), {"a": y})
        if kind == "classes"
        else Target("side", "values", ("right",), {"a": y[:, None].astype(float)})
    )
    slices = {"a": adata}
    return slices, target, RandomCells(validation_share=0.3).folds(slices)[0]


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_views_that_are_about_as_good_are_averaged(kind):
    slices, target, fold = big_study(kind)

    def right(view):
        probe = Probe(TwoHalves(), view=view).learn(slices, target, fold)
        said = probe.predict(slices["a"])
        said = said.argmax(axis=1) if kind == "classes" else said[:, 0] > 0.5
        return probe, (said == target.of["a"].ravel())[fold.test["a"]].mean()

    mixed, score = right(None)
    assert score > max(right("first")[1], right("second")[1]) + 0.01
    assert sum(mixed.shares.values()) == pytest.approx(1)
    assert mixed.shares.get("noise", 0) < min(mixed.shares["first"], mixed.shares["second"])
    assert kind == "values" or mixed.shares.get("noise", 0) < 0.1
    assert mixed.read == max(mixed.shares, key=mixed.shares.get)
    assert all(f"'{view}' ({share:.2f})" in mixed.why for view, share in mixed.shares.items())
    assert right("first")[0].shares == {"first": 1.0}
    said = mixed.predict(slices["a"])
    assert kind == "values" or np.allclose(said.sum(axis=1), 1)


def test_what_was_chosen_can_learn_anew_from_other_cells():
    slices, target, fold = big_study()
    probe = Probe(TwoHalves()).learn(slices, target, fold)
    shares, before = probe.shares, probe.predict(slices["a"])
    everything = {"a": np.ones(1500, dtype=bool)}
    turned = Target("side", "classes", target.names, {"a": 1 - target.of["a"]})
    probe.relearn(slices, turned, replace(fold, train=everything, validation={}, test={}))
    assert probe.shares == shares
    assert np.corrcoef(before[:, 0], probe.predict(slices["a"])[:, 0])[0, 1] < -0.9
    with pytest.raises(InputError, match="chosen nothing yet"):
        Probe(TwoHalves()).relearn(slices, target, fold)
