from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge

import stgraph
from stgraph.errors import InputError, StgraphWarning
from stgraph.metrics.classification import classification_scores
from stgraph.metrics.intervals import block_bootstrap, spatial_blocks
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.evaluate import BLOCKS, evaluate
from stgraph.tasks.folds import Fold
from stgraph.tasks.probe import Probe
from stgraph.tasks.result import COLUMNS
from stgraph.tasks.shifts import HalfSlice, SharedGenes
from stgraph.tasks.splits import GivenSplit, LeaveOneSliceOut, RandomCells, SpatialBlocks
from stgraph.tasks.target import UNKNOWN, Target, label_target

HEADS = [LogisticRegression(C=10.0)]


@dataclass
class Told:
    """Describes cells by what it was told of them by name: the only way left to know a label."""

    told: pd.DataFrame

    def fit(self, slices):
        return self

    def transform(self, adata):
        return self.told.loc[adata.obs_names].to_numpy(dtype=np.float32)


@pytest.fixture(scope="module")
def study():
    sections = stgraph.synthetic_tissue(n_cells=240, n_genes=60, n_slices=2)
    return dict(zip("ab", sections, strict=True))


def told(study, shuffle=False):
    """Which of four quarters of the tissue a cell is in, in disguise."""
    rows = []
    for adata in study.values():
        pos = adata.obsm["spatial"]
        quarter = (pos > np.median(pos, axis=0)) @ [1, 2]
        adata.obs["quarter"] = pd.Categorical.from_codes(quarter, ["p", "q", "r", "s"])
        rows.append(pd.DataFrame(np.eye(4)[quarter], index=adata.obs_names))
    table = pd.concat(rows)
    if shuffle:
        table = pd.DataFrame(np.random.default_rng(0).permutation(table.to_numpy()), index=table.index)
    return Told(table)


def given(adata, kinds):
    adata.obs["split"] = kinds
    return GivenSplit("split")


@pytest.mark.parametrize("split", [RandomCells(0.4, 0.1), SpatialBlocks(20, 3, 0.0), LeaveOneSliceOut()])
def test_a_perfect_description_scores_one_and_a_shuffled_one_chance(study, split):
    model = told(study)
    target = label_target(study, "quarter")
    perfect = evaluate("t", target, study, model, split, heads=HEADS, n_draws=10).table
    assert tuple(perfect.columns) == COLUMNS
    assert np.allclose(perfect[["value", "low", "high"]].astype(float), 1, rtol=0, atol=1e-12)
    assert len(perfect) == 2 * 5
    assert set(perfect["leaks"]) == {split.leaks}
    shuffled = evaluate("t", target, study, told(study, shuffle=True), split, heads=HEADS, n_draws=10).table
    scores = shuffled.groupby("metric")["value"].mean()
    assert scores["accuracy"] == pytest.approx(0.25, abs=0.1)
    assert scores["mcc"] == pytest.approx(0, abs=0.15)
    # Below chance over blocks: of a class that is judged much, little was learnt.
    assert scores["auroc"] == pytest.approx(0.5, abs=0.2 if split.name == "spatial blocks" else 0.1)
    assert scores["macro_f1"] < 0.35


def test_values_are_judged_too(study):
    table = pd.concat(pd.DataFrame(a.obsm["spatial"], index=a.obs_names) for a in study.values())
    target = Target("place", "values", ("x", "y"), {n: a.obsm["spatial"].astype(np.float64) for n, a in study.items()})
    result = evaluate("t", target, study, Told(table), RandomCells(), heads=[Ridge(1e-6)], n_draws=10)
    scores = result.table.groupby("metric")["value"].min()
    assert scores["r2"] == pytest.approx(1, abs=1e-6)
    assert scores["pearson"] == pytest.approx(1, abs=1e-6)
    said = result.adatas["a"].obsm["stgraph_predicted_place"]
    judged = ~np.isnan(said).any(axis=1)
    assert judged.sum() == 48
    assert np.allclose(said[judged], study["a"].obsm["spatial"][judged], atol=1e-2)
    shuffled = Told(pd.DataFrame(np.random.default_rng(1).permutation(table.to_numpy()), index=table.index))
    chance = evaluate("t", target, study, shuffled, RandomCells(), n_draws=10).table
    assert chance.loc[chance["metric"] == "r2", "value"].abs().max() < 0.3


@pytest.mark.parametrize("split", [RandomCells(), LeaveOneSliceOut(), "given"])
def test_labels_of_judged_cells_change_no_prediction(study, split):
    """Every label outside of training and validation is replaced; what is said stays the same to the last bit."""
    slices = {name: adata.copy() for name, adata in study.items()}
    if split == "given":
        for adata in slices.values():
            kinds = np.array(["train", "validation", "test", ""])
            split = given(adata, kinds[np.random.default_rng(0).choice(4, adata.n_obs, p=[0.4, 0.2, 0.2, 0.2])])
    target = label_target(slices, "domain")
    model = LogPCA(n_components=6)

    def predictions(name, of):
        # With one slice judged at a time: in the others its labels are learnt from.
        folds = [f for f in split.folds(slices) if name in f.test]
        result = evaluate("t", of, slices, model, _Fixed(folds), n_draws=2)
        column = result.adatas[name].obs[["stgraph_predicted_domain", "stgraph_predicted_domain_confidence"]]
        return column, result.notes, folds

    rng = np.random.default_rng(0)
    for name in slices:
        before, notes, folds = predictions(name, target)
        other = {}
        for n, truth in target.of.items():
            learnt = np.zeros(len(truth), bool)
            for masks in (folds[0].train, folds[0].validation):
                learnt |= masks.get(n, False)
            other[n] = np.where(learnt, truth, rng.integers(len(target.names), size=len(truth)))
            assert n != name or (other[n] != truth).any()
        after, notes_after, _ = predictions(name, Target(target.name, target.kind, target.names, other))
        pd.testing.assert_frame_equal(before, after)
        assert notes == notes_after
    # The same test would notice: labels of training cells do change what is said.
    swapped = {n: np.where(truth == 0, 1, np.where(truth == 1, 0, truth)) for n, truth in target.of.items()}
    changed, _, _ = predictions("a", Target(target.name, target.kind, target.names, swapped))
    assert not changed.equals(predictions("a", target)[0])


@dataclass
class _Fixed:
    the: list
    name: str = "fixed"
    leaks: bool = False

    def folds(self, slices, *, random_state=0):
        return self.the


@dataclass
class Nosy:
    """A learner that notes all it gets; with one class for all."""

    seen: list = field(default_factory=list)
    n_classes: int = 0

    def __deepcopy__(self, memo):
        assert not self.n_classes  # a fresh one for each fold
        return Nosy(self.seen)

    def learn(self, slices, target, fold):
        self.seen.append((slices, target, fold))
        self.n_classes = len(target.names)
        return self

    def predict(self, adata):
        self.seen.append(adata)
        return np.tile(np.eye(self.n_classes)[0], (adata.n_obs, 1))


@pytest.mark.parametrize("split", [SpatialBlocks(6, 3, 1.0), LeaveOneSliceOut()])
def test_a_learner_gets_nothing_to_peek_at(study, split):
    for adata in study.values():
        adata.obsm["truth"] = pd.get_dummies(adata.obs["domain"]).to_numpy(dtype=float)
        adata.layers["truth"] = adata.X.copy()
    target = label_target(study, "domain")
    nosy = Nosy()
    result = evaluate("t", target, study, nosy, split, n_draws=2)
    assert nosy.n_classes == 0
    folds = iter(split.folds(study))
    for got in nosy.seen:
        if isinstance(got, tuple):
            slices, shown, fold = got
            true = next(folds)
            assert set(slices) == set(true.fit_on) == set(fold.fit_on)
            assert fold.test == {}
            assert set(shown.of) == set(study)
            for name, truth in shown.of.items():
                learnt = true.train.get(name, False) | true.validation.get(name, np.zeros(len(truth), bool))
                assert ((truth != UNKNOWN) == learnt).all()
                assert (truth[learnt] == target.of[name][learnt]).all()
        for adata in slices.values() if isinstance(got, tuple) else [got]:
            assert list(adata.obs) == ["slice_id"]
            assert list(adata.obsm) == ["spatial"]
            assert not len(adata.layers)
            assert not len(adata.obsp)
    accuracy = result.table[result.table["metric"] == "accuracy"].set_index("slice")["value"]
    for name, adata in study.items():
        assert accuracy[name] == pytest.approx((adata.obs["domain"] == target.names[0]).mean())


def test_an_encoder_cannot_read_a_label(study):
    class Cheat:
        def fit(self, slices):
            return self

        def transform(self, adata):
            return pd.get_dummies(adata.obs["domain"]).to_numpy(dtype=np.float32)

    with pytest.raises(KeyError, match="domain"):
        evaluate("t", label_target(study, "domain"), study, Cheat(), RandomCells())


def test_what_the_user_gave_stays_as_it_is(study):
    target = label_target(study, "domain")
    before = {name: adata.copy() for name, adata in study.items()}
    encoder = LogPCA(n_components=4)
    evaluate("t", target, study, encoder, RandomCells(), n_draws=2)
    probe = Probe(LogPCA(n_components=4), HEADS)
    result = evaluate("t", target, study, probe, RandomCells(), n_draws=2)
    assert not encoder.genes
    assert probe.chosen is None
    assert not probe.encoder.genes
    assert "LogisticRegression(C=10.0), the only head" in result.notes[0]
    for name, adata in study.items():
        assert list(adata.obs) == list(before[name].obs)
        assert "stgraph_predicted_domain" in result.adatas[name].obs


def test_cells_are_pooled_over_folds_and_those_not_judged_are_missing(study):
    model, target = told(study), label_target(study, "quarter")
    blocks = evaluate("t", target, study, model, SpatialBlocks(6, 3, 0.0), heads=HEADS, n_draws=2)
    assert set(blocks.table["n_cells"]) == {240}
    assert blocks.adatas["a"].obs["stgraph_predicted_quarter"].notna().all()
    drawn = evaluate("t", target, study, model, RandomCells(), heads=HEADS, n_draws=2)
    assert set(drawn.table["n_cells"]) == {48}
    out = drawn.adatas["a"].obs
    assert (out["stgraph_predicted_quarter"].isna() == out["stgraph_predicted_quarter_confidence"].isna()).all()
    judged = out["stgraph_predicted_quarter"].notna()
    assert judged.sum() == 48
    assert (out.loc[judged, "stgraph_predicted_quarter"].astype(str) == out.loc[judged, "quarter"].astype(str)).all()
    assert list(out["stgraph_predicted_quarter"].cat.categories) == ["p", "q", "r", "s"]


@dataclass(frozen=True)
class Reversed:
    """Cells in another order, some of them gone."""

    name: str = "reversed"
    everywhere: bool = False

    def __call__(self, adata, *, random_state=0):
        return adata[::-1][: adata.n_obs // 3].copy()


def test_a_shift_keeps_cells_and_truth_together(study):
    model, target = told(study), label_target(study, "quarter")
    for shift in (HalfSlice(), Reversed()):
        result = evaluate("t", target, study, model, SpatialBlocks(6, 3, 0.0), heads=HEADS, shift=shift, n_draws=2)
        assert (result.table["value"][result.table["metric"] != "auroc"] == 1).all()
        assert set(result.table["shift"]) == {shift.name}
        for name, adata in study.items():
            # One crop for all folds.
            left = set(shift(adata, random_state=0).obs_names)
            judged = result.adatas[name].obs["stgraph_predicted_quarter"].notna()
            assert set(adata.obs_names[judged]) == left
            assert (result.table.loc[result.table["slice"] == name, "n_cells"] == len(left)).all()


@dataclass(frozen=True)
class Lacking:
    """Genes that only the judged slices lack."""

    name: str = "40 genes"
    everywhere: bool = False

    def __call__(self, adata, *, random_state=0):
        return adata[:, :40].copy()


def test_a_shift_that_everyone_knows_of_reaches_what_is_learnt_from(study):
    seen = []

    class Watching(LogPCA):
        def fit(self, slices):
            seen.extend(adata.n_vars for adata in slices)
            return super().fit(slices)

    target = label_target(study, "domain")
    for shift, n_genes in ((SharedGenes(40), 40), (Lacking(), 60)):
        seen.clear()
        result = evaluate("t", target, study, Watching(n_components=4), LeaveOneSliceOut(), shift=shift, n_draws=2)
        assert set(seen) == {n_genes}
        assert set(result.table["shift"]) == {"40 genes"}


def test_genes_taken_away_are_a_note_not_a_warning(study):
    result = evaluate(
        "t",
        label_target(study, "domain"),
        study,
        LogPCA(n_components=4),
        LeaveOneSliceOut(),
        shift=Lacking(),
        n_draws=2,
    )
    assert any(note.startswith("a, 40 genes: ") for note in result.notes)


def test_other_warnings_under_a_shift_are_not_lost(study):
    class Loud(Nosy):
        def __deepcopy__(self, memo):
            return Loud()

        def predict(self, adata):
            import warnings

            warnings.warn("mind this", RuntimeWarning, stacklevel=1)
            warnings.warn("a note", StgraphWarning, stacklevel=1)
            return super().predict(adata)

    with pytest.warns(RuntimeWarning, match="mind this"):
        result = evaluate("t", label_target(study, "domain"), study, Loud(), RandomCells(), shift=Reversed(), n_draws=2)
    assert result.notes.count("a, reversed: a note") == 1


def test_a_class_without_a_training_cell_is_said(study):
    adata = study["a"].copy()
    labels = np.array(["x"] * 100 + ["y"] * 100 + ["z"] * 40)
    adata.obs["label"] = labels
    adata.obs["split"] = np.where(labels == "z", "test", np.tile(["train", "train", "validation", "test"], 60))
    slices = {"a": adata}
    result = evaluate("t", label_target(slices, "label"), slices, LogPCA(n_components=4), GivenSplit("split"))
    assert result.notes[-1] == "fold 'given': no cell to learn z from, though some are judged"
    assert not (result.adatas["a"].obs["stgraph_predicted_label"] == "z").any()


def test_intervals_are_those_of_the_blocks(study):
    target = label_target(study, "domain")
    result = evaluate("t", target, study, LogPCA(n_components=6), LeaveOneSliceOut(), n_draws=20, random_state=3)
    out = result.adatas["a"].obs
    # The predicted class is all that accuracy asks for.
    said = np.eye(len(target.names))[out["stgraph_predicted_domain"].cat.codes]
    blocks = spatial_blocks(study["a"].obsm["spatial"], n_blocks=BLOCKS)
    for metric in ("accuracy", "macro_f1", "mcc"):
        row = result.table.set_index(["slice", "metric"]).loc[("a", metric)]
        low, high = block_bootstrap(
            lambda rows, metric=metric: classification_scores(target.of["a"][rows], said[rows])[metric],
            blocks,
            n_draws=20,
            random_state=3,
        )
        assert (row["low"], row["high"]) == (low, high)
        assert low < row["value"] < high


def test_a_seed_gives_one_result(study):
    target = label_target(study, "domain")
    first, again = (
        evaluate("t", target, study, LogPCA(n_components=4), RandomCells(), n_draws=5, random_state=2) for _ in "12"
    )
    pd.testing.assert_frame_equal(first.table, again.table)
    assert first.notes == again.notes


def test_what_cannot_be_judged_is_said(study):
    target = label_target(study, "domain")
    with pytest.raises(InputError, match="Nosy learns labels itself, so it takes no heads"):
        evaluate("t", target, study, Nosy(), RandomCells(), heads=HEADS)
    blank = Target("domain", "classes", ("x", "y"), {n: np.full(a.n_obs, UNKNOWN) for n, a in study.items()})
    with pytest.raises(InputError, match="no fold of 'random cells' has both"):
        evaluate("t", blank, study, LogPCA(), RandomCells())
    half = {**target.of, "a": np.full(240, UNKNOWN)}
    with pytest.raises(InputError, match=r"fold 'a' has no cell to judge.*fold 'b' has no cell to learn from"):
        evaluate("t", Target("domain", "classes", target.names, half), study, LogPCA(), LeaveOneSliceOut())


def test_a_head_that_knows_nothing_scores_chance(study):
    target = label_target(study, "quarter")
    result = evaluate("t", target, study, told(study), RandomCells(), heads=[DummyClassifier()], n_draws=2)
    assert result.table.groupby("metric")["value"].mean()["auroc"] == 0.5


def test_folds_are_made_of_masks():
    assert Fold("f", ("a",), {}, {}, {}).shown().test == {}
