import warnings

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.tasks.folds import Fold
from stgraph.tasks.heads import (
    Narrow,
    classifiers,
    few_label_classifier,
    mlp_classifiers,
    mlp_regressors,
    regressors,
)
from stgraph.tasks.probe import Probe
from stgraph.tasks.target import UNKNOWN, Target


class Given:
    """Descriptions that were given; notes what it was fitted on."""

    def __init__(self, x):
        self.x = x
        self.fitted_on = None

    def fit(self, slices):
        self.fitted_on = [id(adata) for adata in slices]
        return self

    def transform(self, adata):
        return self.x[: adata.n_obs].astype(np.float32)


@pytest.fixture(scope="module")
def slices():
    return {"a": stgraph.synthetic_tissue(n_cells=120, n_genes=60)[0]}


TRAIN, VALIDATION = np.arange(120) < 60, (np.arange(120) >= 60) & (np.arange(120) < 90)
FOLD = Fold("f", ("a",), {"a": TRAIN}, {"a": VALIDATION}, {})


def classes(codes, names=("p", "q", "r")):
    return Target("t", "classes", names, {"a": np.asarray(codes)})


def test_validation_cells_choose_and_nothing_else(slices):
    """One head is right where cells train, the other where they choose: the latter wins."""
    y = np.tile([0, 1], 60)
    y[VALIDATION] = 0
    # What would be right everywhere but on validation cells, and what says the class of validation cells.
    x = np.eye(2)[np.tile([0, 1], 60)]
    heads = [LogisticRegression(C=100.0), DummyClassifier(strategy="constant", constant=0)]
    probe = Probe(Given(x), heads).learn(slices, classes(y), FOLD)
    assert isinstance(probe.chosen, DummyClassifier)
    assert probe.why.startswith("macro F1 1.000 on the validation cells, the first of 2 heads")
    # The same cells as training cells say otherwise.
    y[VALIDATION] = np.tile([0, 1], 60)[VALIDATION]
    assert isinstance(Probe(Given(x), heads).learn(slices, classes(y), FOLD).chosen, LogisticRegression)


def test_a_head_that_is_better_by_a_hair_does_not_overtake(slices):
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 60)
    x = np.eye(2)[np.where(rng.random(120) < 0.2, 1 - y, y)] + rng.normal(size=(120, 2)) * 0.3
    heads = [LogisticRegression(C=c) for c in (0.3, 1.0, 3.0, 10.0)]
    for order in (heads, heads[::-1]):
        assert Probe(Given(x), order).learn(slices, classes(y), FOLD).chosen.C == order[0].C
    clearly = [DummyClassifier(), *heads]
    assert Probe(Given(x), clearly).learn(slices, classes(y), FOLD).chosen.C == 0.3


def test_the_chosen_head_is_trained_on_both(slices):
    y = np.tile([0, 1], 60)
    y[VALIDATION] = 2
    said = (
        Probe(Given(np.eye(3)[y]), [LogisticRegression(C=100.0)]).learn(slices, classes(y), FOLD).predict(slices["a"])
    )
    assert (said.argmax(axis=1) == y).all()
    assert np.allclose(said.sum(axis=1), 1)


def test_a_class_that_was_not_learnt_has_no_chance(slices):
    y = np.tile([0, 2], 60)
    probe = Probe(Given(np.eye(3)[y])).learn(slices, classes(y), FOLD)
    said = probe.predict(slices["a"])
    assert said.shape == (120, 3)
    assert (said[:, 1] == 0).all()
    assert (said.argmax(axis=1) == y).all()


def test_a_single_class_is_said_of_all(slices):
    said = Probe(Given(np.eye(3)[np.zeros(120, int)])).learn(slices, classes(np.ones(120, int)), FOLD)
    assert (said.predict(slices["a"]) == [0, 1, 0]).all()


def test_cells_without_a_label_teach_nothing(slices):
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 60)
    x = np.eye(2)[y] + rng.normal(size=(120, 2)) * 0.1
    hidden = np.where(np.arange(120) % 3 == 0, UNKNOWN, y)
    seen = Probe(Given(x)).learn(slices, classes(hidden), FOLD).predict(slices["a"])
    known = {kind: {"a": mask & (hidden != UNKNOWN)} for kind, mask in (("train", TRAIN), ("validation", VALIDATION))}
    same = Probe(Given(x)).learn(slices, classes(y), Fold("g", ("a",), known["train"], known["validation"], {}))
    assert (seen == same.predict(slices["a"])).all()


def test_values(slices):
    x = np.random.default_rng(0).normal(size=(120, 3))
    y = x @ [[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]] * 50 + 7
    y[5] = np.nan
    target = Target("v", "values", ("one", "two"), {"a": y})
    probe = Probe(Given(x), [Ridge(1000.0), Ridge(1e-6)]).learn(slices, target, FOLD)
    assert probe.chosen.alpha == 1e-6
    assert probe.why.startswith("explained variance 1.000")
    assert np.allclose(np.delete(probe.predict(slices["a"]), 5, 0), np.delete(y, 5, 0), atol=1e-2)
    single = Target("v", "values", ("one",), {"a": y[:, :1]})
    assert Probe(Given(x)).learn(slices, single, FOLD).predict(slices["a"]).shape == (120, 1)


def test_only_the_slices_of_the_fold_are_looked_at(slices):
    both = slices | {"b": slices["a"].copy()}
    target = Target("t", "classes", ("p", "q"), {n: np.tile([0, 1], 60) for n in both})
    encoder = Given(np.random.default_rng(0).normal(size=(120, 2)))
    Probe(encoder).learn(both, target, FOLD)
    assert encoder.fitted_on == [id(slices["a"])]


def test_the_scale_is_one_number_from_the_slices_learnt_from(slices):
    """A nearest-neighbour head is not swayed by a small channel; a shifted slice is not moved back."""
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 60)
    x = np.c_[y * 10 + rng.normal(size=120), rng.normal(size=(120, 5)) * 0.1] * 1e3
    head = [KNeighborsClassifier(1)]
    probe = Probe(Given(x), head).learn(slices, classes(y), FOLD)
    assert np.allclose(probe._scaled(x).mean(axis=0), 0)
    assert probe._scaled(x).var(axis=0).mean() == pytest.approx(1)
    assert np.ptp(probe._scaled(x), axis=0).argmax() == 0
    assert (probe.predict(slices["a"]).argmax(axis=1) == y).all()
    probe.encoder.x = x + 1e4
    assert (probe.predict(slices["a"]).argmax(axis=1) == 1).all()
    constant = Probe(Given(np.ones((120, 2))), head).learn(slices, classes(y), FOLD)
    assert np.isfinite(constant.predict(slices["a"])).all()


def test_without_validation_cells_the_first_head_is_taken(slices):
    y = np.tile([0, 1], 60)
    fold = Fold("f", ("a",), {"a": TRAIN}, {}, {})
    probe = Probe(Given(np.eye(2)[y]), [DummyClassifier(), *classifiers()]).learn(slices, classes(y), fold)
    assert isinstance(probe.chosen, DummyClassifier)
    assert probe.why == "the first head, for no cell is there to choose by"


def test_a_head_that_needs_more_cells_does_not_compete(slices):
    y = np.tile([0, 1, 2], 40)
    few = np.isin(np.arange(120), [0, 1, 2])
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    fold = Fold("f", ("a",), {"a": few}, {"a": VALIDATION}, {})
    probe = Probe(Given(np.eye(3)[y]), [lda, LogisticRegression()]).learn(slices, classes(y), fold)
    assert "the first of 1 heads" in probe.why
    assert isinstance(probe.chosen, LogisticRegression)
    for heads in ([lda], [lda, lda]):
        with pytest.raises(InputError, match=r"LinearDiscriminantAnalysis.* cannot be trained on 3 cells"):
            Probe(Given(np.eye(3)[y]), heads).learn(slices, classes(y), Fold("f", ("a",), {"a": few}, {}, {}))


def test_misuse_is_said(slices):
    probe = Probe(Given(np.ones((120, 1))))
    with pytest.raises(InputError, match="has learnt nothing yet"):
        probe.predict(slices["a"])
    with pytest.raises(InputError, match="No cell to learn 't' from in fold 'f' of a"):
        probe.learn(slices, classes(np.full(120, UNKNOWN)), FOLD)
    with pytest.raises(InputError, match="needs a head at least"):
        Probe(probe.encoder, [])


def test_wide_descriptions_are_narrowed():
    x = np.random.default_rng(0).normal(size=(50, 40)) * np.r_[np.full(5, 10.0), np.ones(35)]
    narrow = Narrow(10).fit(x)
    assert narrow.transform(x).shape == (50, 10)
    assert narrow.transform(x).var(axis=0).sum() > 0.9 * x[:, :5].var(axis=0).sum()
    assert Narrow(40).fit(x).transform(x) is x
    assert Narrow(10).fit(x[:4]).transform(x).shape == (50, 4)
    assert (narrow.transform(x) == Narrow(10).fit(x).transform(x)).all()
    with pytest.raises(InputError, match="max_channels of at least 1"):
        Narrow(0).fit(x)


def test_every_head_learns_what_is_plain_and_goes_through_a_config():
    rng = np.random.default_rng(0)
    y = np.tile([0, 1, 2], 100)
    x = np.eye(3)[y] * 3 + rng.normal(size=(300, 3))
    values = x @ rng.normal(size=(3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for head in [*classifiers(), few_label_classifier(), *mlp_classifiers()]:
            assert head.fit(x, y).score(x, y) > 0.9
        for head in [*regressors(), *mlp_regressors()]:
            assert head.fit(x, values).score(x, values) > 0.7
    for head in [*mlp_classifiers(random_state=3), *mlp_regressors(random_state=3)]:
        assert head.random_state == 3
        assert not head.early_stopping
    plain = few_label_classifier()
    assert instantiate(to_config(plain)).get_params() == plain.get_params()
