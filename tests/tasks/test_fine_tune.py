import functools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData
from sklearn.metrics import f1_score

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.io.read import canonicalize
from stgraph.partition.spatial import CoordinateBisection
from stgraph.tasks.fine_tune import FineTuned
from stgraph.tasks.folds import Fold
from stgraph.tasks.learned import LearnedEncoder, PretrainedEncoder
from stgraph.tasks.target import UNKNOWN, Target
from stgraph.training.loop import Trainer

SETTINGS = {
    "trainer": {"_target_": "stgraph.training.untrained.Untrained"},
    "virtual_cells": None,
    "encoder": {"_target_": "stgraph.preprocess.encoder.LogPCA", "n_components": 4},
    "builder": {"_target_": "stgraph.graph.builders.KNN", "n_neighbors": 12},
    "model": {"_target_": "stgraph.models.se2_transformer.SE2Transformer", "hidden_channels": 16},
}


@functools.cache
def planted():
    """Stripes in which one of two kinds of cell prevails, 7 : 3: a cell tells its stripe badly, its neighbours well."""
    rng = np.random.default_rng(0)
    pos = rng.uniform(0, 500, (500, 2))
    stripe = (pos[:, 0] // 250).astype(np.int64)
    kind = np.where(rng.random(500) < 0.7, stripe, 1 - stripe)
    rate = np.where(np.arange(20) % 2 == kind[:, None], 6.0, 1.0)
    adata = AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.int32)), obsm={"spatial": pos})
    adata.var_names = [f"gene{i}" for i in range(20)]
    adata = canonicalize(adata, name="planted", um_per_unit=1.0)
    y = pos[:, 1]
    fold = Fold("f", ("a",), {"a": y < 250}, {"a": (y > 270) & (y < 330)}, {"a": y > 350})
    return {"a": adata}, stripe, fold


def classes(values):
    return Target("stripe", "classes", ("even", "odd"), {"a": values})


def tuned(target, fold=None, **settings):
    slices, _, own_fold = planted()
    given = {
        "trainer": Trainer(max_steps=40, lr=1e-2, warmup_steps=5),
        "partitioner": CoordinateBisection(150),
    } | settings
    return FineTuned(**({"encoder": LearnedEncoder(SETTINGS)} | given)).learn(slices, target, fold or own_fold)


def accuracy(said, truth, mask):
    return (said.argmax(axis=1) == truth)[mask].mean()


def weights(model):
    return model.model.model.state_dict()


def test_labels_made_of_the_neighbourhood_are_learnt():
    slices, stripe, fold = planted()
    model = tuned(classes(stripe))
    said = model.predict(slices["a"])
    np.testing.assert_allclose(said.sum(axis=1), 1)
    # What the cell itself says is right in seven of ten.
    assert accuracy(said, stripe, fold.test["a"]) > 0.85


def test_shuffled_labels_give_chance():
    slices, stripe, fold = planted()
    shuffled = np.random.default_rng(1).permutation(stripe)
    said = tuned(classes(shuffled), trainer=Trainer(max_steps=20, lr=1e-2, warmup_steps=5)).predict(slices["a"])
    assert 0.4 < accuracy(said, shuffled, fold.test["a"]) < 0.6


def test_labels_of_other_than_training_cells_change_no_weight():
    _, stripe, fold = planted()
    to_the_end = Fold("f", ("a",), fold.train, {}, fold.test)
    quick = {"trainer": Trainer(max_steps=6, warmup_steps=0)}
    first, second, third = (
        tuned(classes(labels), to_the_end, **quick)
        for labels in (
            stripe,
            np.where(fold.train["a"], stripe, 1 - stripe),
            np.where(fold.train["a"], 1 - stripe, stripe),
        )
    )
    assert all(torch.equal(weights(first)[name], value) for name, value in weights(second).items())
    # And it is not that labels change nothing, or that nothing is trained.
    assert not torch.equal(weights(third)["linear.weight"], weights(first)["linear.weight"])
    start = first.encoder.pretrained.model.state_dict()["encode.weight"]
    assert float((weights(first)["network.encode.weight"] - start).abs().max()) > 1e-3


def test_labels_of_test_cells_do_not_choose():
    _, stripe, fold = planted()
    first, second = (
        tuned(classes(labels), trainer=Trainer(max_steps=6))
        for labels in (stripe, np.where(fold.train["a"] | fold.validation["a"], stripe, 1 - stripe))
    )
    assert first.run.judged == second.run.judged
    assert all(torch.equal(weights(first)[name], value) for name, value in weights(second).items())


def test_the_best_epoch_on_validation_is_what_predicts():
    slices, stripe, fold = planted()
    model = tuned(classes(stripe), trainer=Trainer(max_steps=30, lr=3e-2), patience=4)
    judged = model.run.judged
    assert model.run.best_step == min(judged, key=judged.get) < max(judged)
    mask = fold.validation["a"]
    predicted = model.predict(slices["a"]).argmax(axis=1)
    loss = 1 - f1_score(stripe[mask], predicted[mask], average="macro")
    assert loss == pytest.approx(judged[model.run.best_step], abs=1e-9)


def test_a_seed_decides():
    _, stripe, fold = planted()
    to_the_end = Fold("f", ("a",), fold.train, {}, {})
    first, again, other = (
        tuned(classes(stripe), to_the_end, trainer=Trainer(max_steps=4), head_channels=[4], random_state=seed)
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(weights(first)[name], value) for name, value in weights(again).items())
    assert not torch.equal(weights(first)["hidden.0.weight"], weights(other)["hidden.0.weight"])


def test_values_in_any_unit():
    slices, stripe, fold = planted()
    rng = np.random.default_rng(0)
    values = np.stack([stripe + 0.1 * rng.normal(size=500), -stripe.astype(float)], axis=1)
    values[:20] = np.nan

    def learn(values):
        target = Target("share", "values", ("first", "second"), {"a": values})
        return tuned(target, trainer=Trainer(max_steps=10, lr=1e-2, warmup_steps=5)).predict(slices["a"])

    said, mask = learn(values), fold.test["a"] & (np.arange(500) >= 20)
    assert said.shape == (500, 2)
    assert ((said - values)[mask] ** 2).sum() < 0.6 * ((values - values[mask].mean(axis=0))[mask] ** 2).sum()
    np.testing.assert_allclose(learn(values * 100 + 7), said * 100 + 7, atol=0.5)


def test_without_validation_cells_the_last_weights_are_kept():
    _, stripe, fold = planted()
    model = tuned(classes(stripe), Fold("f", ("a",), fold.train, {}, fold.test), trainer=Trainer(max_steps=7))
    assert model.run.judged == {}
    assert model.run.best_step == len(model.run.history) == 7


def test_parts_without_a_known_cell_take_no_step():
    _, stripe, fold = planted()
    few = np.zeros(500, dtype=bool)
    few[np.flatnonzero(fold.train["a"])[:1]] = True
    model = tuned(classes(stripe), Fold("f", ("a",), {"a": few}, {}, {}), trainer=Trainer(max_steps=3))
    assert [record["epoch"] for record in model.run.history] == [1, 2, 3]


def test_balanced_classes_count_alike():
    """Of labels without any meaning only how common each is can be learnt."""
    slices, _, fold = planted()
    rare = (np.random.default_rng(0).random(500) < 0.15).astype(np.int64)
    to_the_end = Fold("f", ("a",), fold.train, {}, {})
    settings = {"trainer": Trainer(max_steps=8, warmup_steps=0), "partitioner": CoordinateBisection(500)}
    plain, balanced = (
        tuned(classes(rare), to_the_end, class_weight=weight, **settings).predict(slices["a"])[fold.test["a"], 1].mean()
        for weight in (None, "balanced")
    )
    assert 0.05 < plain < 0.3
    assert 0.35 < balanced < 0.65


def test_it_starts_from_what_the_encoder_learnt_and_leaves_that_alone(fitted, slices, tmp_path):
    fitted.pretrained.save(tmp_path)
    labels = slices[0].obs["domain"].cat.codes.to_numpy().astype(np.int64)
    target = Target("domain", "classes", tuple(slices[0].obs["domain"].cat.categories), {"a": labels})
    fold = Fold("f", ("a",), {"a": np.arange(320) < 200}, {}, {})
    model = FineTuned(
        PretrainedEncoder(tmp_path), head_channels=[8], dropout=0.1, trainer=Trainer(max_steps=1, lr=1e-9)
    )
    model.learn({"a": slices[0]}, target, fold)
    before, after = fitted.pretrained.model.state_dict(), weights(model)
    assert max(float((after[f"network.{name}"] - value).abs().max()) for name, value in before.items()) < 1e-6
    model.trainer = Trainer(max_steps=3, lr=1e-2, warmup_steps=0)
    model.learn({"a": slices[0]}, target, fold)
    assert float((weights(model)["network.encode.weight"] - before["encode.weight"]).abs().max()) > 1e-3
    assert torch.equal(model.encoder.pretrained.model.state_dict()["encode.weight"], before["encode.weight"])


def test_nothing_to_learn_from():
    slices, _, _ = planted()
    with pytest.raises(InputError, match="No cell to learn 'stripe' from in fold 'f' of a"):
        tuned(classes(np.full(500, UNKNOWN)))
    with pytest.raises(InputError, match="FineTuned has learnt nothing yet"):
        FineTuned().predict(slices["a"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"head_channels": [0]}, "positive whole numbers as head_channels"),
        ({"dropout": 1.0}, "dropout from 0 to below 1"),
        ({"patience": 0}, "patience of at least 1"),
        ({"class_weight": "even"}, "'balanced' or None, not 'even'"),
    ],
)
def test_senseless_parameters(wrong, message):
    with pytest.raises(InputError, match=message):
        FineTuned(**wrong)


def test_config():
    config = to_config(FineTuned(LearnedEncoder(SETTINGS), head_channels=[16], class_weight="balanced"))
    assert to_config(instantiate(config)) == config
