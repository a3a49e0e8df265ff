import functools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.graph.neighbor_choice import NearestCells
from stgraph.io.read import canonicalize
from stgraph.tasks.density import cell_density
from stgraph.tasks.fine_tune import FineTuned
from stgraph.tasks.folds import Fold
from stgraph.tasks.neighborhood_encoder import NeighborhoodEncoder
from stgraph.tasks.target import Target
from stgraph.training.loop import Trainer
from stgraph.training.untrained import Untrained

MODEL = {
    "_target_": "stgraph.models.aido_tissue.AIDOTissue",
    "hidden_channels": 16,
    "num_layers": 1,
    "ffn_channels": 32,
    "num_bins": 16,
    "decoder_channels": 16,
    "decoder_layers": 1,
}


@functools.cache
def planted():
    """Stripes in which one of two kinds of cell prevails, 4 : 1; a kind has genes of its own."""
    rng = np.random.default_rng(0)
    pos = rng.uniform(0, 300, (300, 2))
    stripe = (pos[:, 0] // 150).astype(np.int64)
    kind = np.where(rng.random(300) < 0.8, stripe, 1 - stripe)
    rate = np.where(np.arange(12) % 2 == kind[:, None], 4.0, 0.3)
    adata = AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.int32)), obsm={"spatial": pos})
    adata.var_names = [f"gene{i}" for i in range(12)]
    adata = canonicalize(adata, name="planted", um_per_unit=1.0)
    y = pos[:, 1]
    fold = Fold("f", ("a",), {"a": y < 150}, {"a": (y > 160) & (y < 200)}, {"a": y > 210})
    return {"a": adata}, stripe, kind, fold


def tuned(target, fold=None, **settings):
    slices, _, _, own_fold = planted()
    encoder = NeighborhoodEncoder(MODEL, neighbors=NearestCells(4), trainer=Untrained(), max_cells=32)
    given = {"encoder": encoder, "trainer": Trainer(max_steps=30, lr=5e-3, warmup_steps=3)} | settings
    return FineTuned(**given).learn(slices, target, fold or own_fold)


def classes(values, name="stripe"):
    return Target(name, "classes", ("even", "odd"), {"a": values})


def accuracy(said, truth, mask):
    return (said.argmax(axis=1) == truth)[mask].mean()


def weights(model):
    return model.model.model.state_dict()


def test_the_kind_of_a_cell_is_learnt():
    slices, _, kind, fold = planted()
    model = tuned(classes(kind, "kind"))
    said = model.predict(slices["a"])
    assert said.shape == (300, 2)
    np.testing.assert_allclose(said.sum(axis=1), 1)
    assert accuracy(said, kind, fold.test["a"]) > 0.9


def test_shuffled_labels_give_chance():
    slices, _, kind, fold = planted()
    shuffled = np.random.default_rng(1).permutation(kind)
    said = tuned(classes(shuffled), trainer=Trainer(max_steps=8, warmup_steps=1)).predict(slices["a"])
    assert 0.35 < accuracy(said, shuffled, fold.test["a"]) < 0.65


def test_labels_of_other_than_training_cells_change_no_weight():
    _, _, kind, fold = planted()
    to_the_end = Fold("f", ("a",), fold.train, {}, fold.test)
    quick = {"trainer": Trainer(max_steps=4, warmup_steps=0)}
    first, second, third = (
        tuned(classes(labels), to_the_end, **quick)
        for labels in (
            kind,
            np.where(fold.train["a"], kind, 1 - kind),
            np.where(fold.train["a"], 1 - kind, kind),
        )
    )
    assert all(torch.equal(weights(first)[name], value) for name, value in weights(second).items())
    assert not torch.equal(weights(third)["linear.weight"], weights(first)["linear.weight"])
    # The network itself is trained, and that of the encoder stays as it was.
    name = "gene_embedding.linear2.weight"
    start = first.encoder.network.state_dict()[name]
    assert float((weights(first)[f"network.{name}"] - start).abs().max()) > 1e-4
    assert torch.equal(start, second.encoder.network.state_dict()[name])


def test_validation_chooses_and_test_cells_do_not():
    slices, _, kind, fold = planted()
    first, second = (
        tuned(classes(labels), trainer=Trainer(max_steps=12, lr=1e-2, warmup_steps=2), patience=9)
        for labels in (kind, np.where(fold.train["a"] | fold.validation["a"], kind, 1 - kind))
    )
    judged = first.run.judged
    assert judged == second.run.judged
    assert first.run.best_step == min(judged, key=judged.get)
    assert len(judged) > 2
    np.testing.assert_array_equal(first.predict(slices["a"]), second.predict(slices["a"]))


def test_cell_density_is_learnt_as_values_of_any_unit():
    """Counts within 25 microns; here told by genes, for cells in the dense half have others."""
    rng = np.random.default_rng(0)
    pos = np.concatenate([rng.uniform(0, 100, (220, 2)), rng.uniform([140, 0], [240, 100], (60, 2))])
    dense = np.arange(280) < 220
    rate = np.where(np.arange(12) % 2 == dense[:, None], 4.0, 0.3)
    adata = AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.int32)), obsm={"spatial": pos})
    adata.var_names = [f"gene{i}" for i in range(12)]
    adata = canonicalize(adata, name="a", um_per_unit=1.0)
    counts = cell_density(adata, 25.0)[:, None].astype(float)
    y = pos[:, 1]
    fold = Fold("f", ("a",), {"a": y < 50}, {"a": (y > 55) & (y < 70)}, {"a": y > 75})
    model = FineTuned(
        NeighborhoodEncoder(MODEL, neighbors=NearestCells(3), trainer=Untrained()),
        trainer=Trainer(max_steps=20, lr=5e-3, warmup_steps=2),
    ).learn({"a": adata}, Target("density", "values", ("cells",), {"a": counts}), fold)
    said, mask = model.predict(adata), fold.test["a"]
    assert said.shape == (280, 1)
    assert ((said - counts)[mask] ** 2).mean() < 0.7 * counts[mask].var()


def test_a_config_there_and_back():
    config = to_config(FineTuned(NeighborhoodEncoder(MODEL, trainer=Untrained())))
    assert to_config(instantiate(config)) == config


def test_epochs_in_place_of_steps():
    _, _, kind, fold = planted()
    model = tuned(classes(kind), epochs=2)
    steps = -(-int(fold.train["a"].sum()) // 32)
    assert len(model.run.history) == 2 * steps
    assert set(model.run.judged) == {0, steps, 2 * steps}
    with pytest.raises(InputError, match="epochs"):
        FineTuned(epochs=0)


def test_the_learning_rate_rises_in_a_share_of_the_steps():
    _, _, kind, fold = planted()
    quick = {"trainer": Trainer(max_steps=8, lr=1e-3, warmup_steps=7)}
    rates = [record["lr"] for record in tuned(classes(kind), fold, warmup=0.25, **quick).run.history]
    assert int(np.argmax(rates)) <= 2
    assert rates[-1] < max(rates) / 2
    plain = [record["lr"] for record in tuned(classes(kind), fold, **quick).run.history]
    assert int(np.argmax(plain)) >= 6
    with pytest.raises(InputError, match="warmup from 0 to below 1"):
        FineTuned(warmup=10)


def test_nothing_to_predict_with():
    with pytest.raises(InputError, match="has learnt nothing yet"):
        FineTuned(NeighborhoodEncoder(MODEL)).predict(planted()[0]["a"])
