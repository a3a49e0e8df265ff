import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

import stgraph
from stgraph.errors import InputError
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.few_shot import FewShot
from stgraph.tasks.splits import LeaveOneSliceOut, RandomCells
from stgraph.tasks.target import label_target


class Listening:
    """A learner that notes which cells it was taught."""

    def __init__(self, folds=None):
        self.folds = [] if folds is None else folds

    def __deepcopy__(self, memo):
        return Listening(self.folds)

    def learn(self, slices, target, fold):
        self.folds.append((target, fold))
        self.n = len(target.names)
        return self

    def predict(self, adata):
        return np.eye(self.n)[np.zeros(adata.n_obs, int)]


class Quarters:
    """Tells in which of four quarters a cell is."""

    def fit(self, slices):
        return self

    def transform(self, adata):
        return np.eye(4, dtype=np.float32)[quarter(adata)]


def quarter(adata):
    pos = adata.obsm["spatial"]
    return (pos > np.median(pos, axis=0)) @ [1, 2]


@pytest.fixture(scope="module")
def study():
    slices = dict(zip("ab", stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2), strict=True))
    for adata in slices.values():
        adata.obs["quarter"] = quarter(adata).astype(str)
    return slices


def test_the_few_cells_are_training_cells_and_all_there_is(study):
    listening = Listening()
    task = FewShot("quarter", n_cells=(2, 7), n_repeats=3, n_draws=2)
    split = RandomCells()
    result = task.run(study, listening, split=split, random_state=1)
    (allowed,) = split.folds(study, random_state=1)
    assert len(listening.folds) == 6
    drawn = []
    for (target, fold), n in zip(listening.folds, [2] * 3 + [7] * 3, strict=True):
        assert not fold.validation
        labels = []
        for name, mask in fold.train.items():
            assert not (mask & ~allowed.train[name]).any()
            labels.append(target.of[name][mask])
            # Labels of all other cells are hidden.
            assert (target.known(name) == mask).all()
        assert np.bincount(np.concatenate(labels)).tolist() == [n] * 4
        drawn.append(tuple(np.concatenate([fold.train.get(k, np.zeros(200, bool)) for k in "ab"])))
    assert len(set(drawn)) == 6
    assert result.table.groupby("n_labels")["repeat"].nunique().to_dict() == {2: 3, 7: 3}
    again = Listening()
    task.run(study, again, split=split, random_state=1)
    assert all(f.train.keys() == g.train.keys() for (_, f), (_, g) in zip(listening.folds, again.folds, strict=True))
    for (_, f), (_, g) in zip(listening.folds, again.folds, strict=True):
        assert all((f.train[name] == g.train[name]).all() for name in f.train)


def test_one_cell_of_each_class_is_enough_for_a_perfect_description(study):
    table = (
        FewShot("quarter", n_cells=(1,), n_repeats=2, n_draws=2).run(study, Quarters(), split=LeaveOneSliceOut()).table
    )
    assert np.allclose(table["value"], 1)
    assert set(table["split"]) == {"other slice"}
    assert set(table["n_labels"]) == {1}


def test_more_labels_help(study):
    task = FewShot("domain", n_cells=(1, 50), n_repeats=3, n_draws=2)
    table = task.run(study, LogPCA(n_components=8), split=RandomCells()).table
    f1 = table[table["metric"] == "macro_f1"].groupby("n_labels")["value"].mean()
    assert f1[50] > f1[1] + 0.1


def test_a_class_with_too_few_cells_gives_all_and_that_is_said(study):
    labels = np.where(np.arange(200) < 8, "rare", "frequent")
    slices = {"a": study["a"].copy()}
    slices["a"].obs["label"] = np.random.default_rng(0).permutation(labels)
    listening = Listening()
    result = FewShot("label", n_cells=(30,), n_repeats=1, n_draws=2).run(slices, listening, split=RandomCells())
    (allowed,) = RandomCells().folds(slices)
    n_rare = int((slices["a"].obs["label"][allowed.train["a"]] == "rare").sum())
    assert f"fold 'random': 'rare' has {n_rare} training cells, fewer than 30" in result.notes
    ((target, fold),) = listening.folds
    assert np.bincount(target.of["a"][fold.train["a"]]).tolist() == [30, n_rare]


def test_the_head_can_be_named(study):
    task = FewShot("quarter", n_cells=(3,), n_repeats=1, n_draws=2, head=KNeighborsClassifier(1))
    assert np.allclose(task.run(study, Quarters(), split=RandomCells()).table["value"], 1)
    with pytest.raises(InputError, match="Listening learns labels itself, so it takes no head"):
        task.run(study, Listening(), split=RandomCells())


@pytest.mark.parametrize("wrong", [(), (0,), (1.5,), (True,)])
def test_numbers_of_cells_are_checked(wrong):
    with pytest.raises(InputError, match="FewShot needs n_cells of whole numbers"):
        FewShot("x", n_cells=wrong)


def test_predictions_are_those_of_most_cells(study):
    task = FewShot("quarter", n_cells=(20, 1), n_repeats=1, n_draws=2)
    out = task.run(study, Quarters(), split=RandomCells()).adatas["a"].obs
    judged = out["stgraph_predicted_quarter"].notna()
    assert judged.sum() == 40
    assert (out.loc[judged, "stgraph_predicted_quarter"].astype(str) == out.loc[judged, "quarter"]).all()
    assert isinstance(out, pd.DataFrame)
    assert label_target(study, "quarter").names == ("0", "1", "2", "3")
