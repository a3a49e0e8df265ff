from dataclasses import dataclass, field

import numpy as np
import pytest
import yaml

import stgraph
from stgraph._config import config_dir, instantiate, to_config
from stgraph.baselines import Constant
from stgraph.errors import InputError
from stgraph.io.slices import split_slices
from stgraph.metrics.proportions import proportion_scores
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.deconvolution import Deconvolution
from stgraph.tasks.deconvolve import deconvolve
from stgraph.tasks.pseudo_spots import pseudo_spots
from stgraph.tasks.signature_nnls import SignatureNNLS
from stgraph.tasks.signature_poisson import SignaturePoisson
from stgraph.tasks.simplex import SimplexRidge
from stgraph.tasks.splits import LeaveOneSliceOut, RandomCells, SpatialBlocks
from stgraph.tasks.spot_layouts import SquareSpots

LAYOUT = SquareSpots(40.0)
ACROSS = LeaveOneSliceOut(buffer=0)


@pytest.fixture
def study(slices):
    return dict(zip("ab", slices, strict=True))


def value(result, metric="jsd"):
    return result.table[result.table["metric"] == metric].set_index("slice")["value"]


@dataclass
class Planted:
    """Says what it was given, row by row."""

    rows: dict = field(default_factory=dict)

    def fit(self, slices):
        return self

    def transform(self, adata):
        return np.stack([self.rows[name] for name in adata.obs_names]).astype(np.float32)


def truths(study, change=lambda shares: shares):
    rows = {}
    for adata in study.values():
        spots = pseudo_spots(adata, "cell_type", layout=LAYOUT)
        rows |= dict(zip(spots.obs_names, change(spots.obsm["proportions"]), strict=True))
    return Planted(rows)


def test_a_perfect_description_scores_best_and_a_shuffled_one_chance(study):
    task = Deconvolution(layout=LAYOUT, heads=[SimplexRidge(alpha=0.01)])
    perfect = task.run(study, truths(study), split=ACROSS)
    assert value(perfect).max() < 0.005
    assert value(perfect, "pearson").min() > 0.99
    shuffled = task.run(study, truths(study, np.random.default_rng(0).permutation), split=ACROSS)
    assert abs(value(shuffled, "pearson").mean()) < 0.1
    assert value(shuffled).min() > 0.8 * value(task.run(study, Constant(), split=ACROSS)).min()


def test_scores_are_those_of_the_written_shares(study):
    result = Deconvolution(layout=LAYOUT).run(study, SignaturePoisson(), split=ACROSS)
    for name, spots in result.adatas.items():
        scores = proportion_scores(spots.obsm["proportions"], spots.obsm["stgraph_predicted_proportions"])
        for metric, score in scores.items():
            assert value(result, metric)[name] == pytest.approx(score, abs=1e-5)
    assert (result.table["low"] <= result.table["value"]).all()
    assert (result.table["n_cells"] > 10).all()


def test_signatures_beat_the_mean_composition(study):
    task = Deconvolution(layout=LAYOUT)
    mean = value(task.run(study, Constant(), split=ACROSS))
    for method in (SignatureNNLS(), SignaturePoisson()):
        assert (value(task.run(study, method, split=ACROSS)) < 0.7 * mean).all()


@dataclass
class Spy:
    """Writes down the cells it learns from and tells nothing."""

    seen: list = field(default_factory=list)

    def __deepcopy__(self, memo):
        return self

    def fit(self, counts, types, n_types):
        self.seen.append((counts.sum(), len(types)))
        self.n_types = n_types
        return self

    def proportions(self, counts, pos):
        return np.full((counts.shape[0], self.n_types), 1 / self.n_types)


@pytest.mark.parametrize("split", [SpatialBlocks(n_blocks=6, n_folds=3, buffer=0.5), RandomCells(), ACROSS])
def test_the_reference_holds_no_cell_of_a_judged_spot(study, split):
    # Cells of judged spots are given counts that cannot be overlooked, fold by fold.
    spots = {name: pseudo_spots(adata, "cell_type", layout=LAYOUT) for name, adata in study.items()}
    spy = Spy()
    Deconvolution(layout=LAYOUT).run(study, spy, split=split)
    expected = []
    for fold in split.folds(spots):
        total = n_cells = 0
        for masks in (fold.train, fold.validation):
            for name, mask in masks.items():
                total += spots[name].X[mask].sum()
                n_cells += spots[name].obs["n_cells"][mask].sum()
        expected += [(total, n_cells)] * len(fold.test)
    assert spy.seen == expected


def test_counts_of_judged_cells_teach_nothing(study):
    task = Deconvolution(layout=LAYOUT)
    before = task.run({"a": study["a"], "b": study["b"]}, SignaturePoisson(), split=ACROSS)
    changed = study["a"].copy()
    changed.X = changed.X * 3  # judged when a is left out: b's shares are learnt from a, and vice versa
    after = task.run({"a": changed, "b": study["b"]}, SignaturePoisson(), split=ACROSS)
    # Multiplying all counts of a spot does not change its shares, nor does a factor on all signatures.
    for name in "ab":
        np.testing.assert_allclose(
            after.adatas[name].obsm["stgraph_predicted_proportions"],
            before.adatas[name].obsm["stgraph_predicted_proportions"],
            atol=2e-3,
        )


def test_what_was_left_out_is_noted(study):
    study["a"].obs["cell_type"] = study["a"].obs["cell_type"].astype(object)
    study["a"].obs.loc[study["a"].obs_names[:20], "cell_type"] = None
    result = Deconvolution(layout=LAYOUT, min_cells=2).run(study, LogPCA(n_components=5), split=ACROSS)
    assert any("20 cells without a type" in note for note in result.notes)
    assert any("fewer than 2 cells" in note for note in result.notes)


def test_heads_are_refused_where_they_mean_nothing(study):
    with pytest.raises(InputError, match="SignatureNNLS needs no heads"):
        Deconvolution(layout=LAYOUT, heads=[Constant()]).run(study, SignatureNNLS(), split=ACROSS)


def test_deconvolve_takes_cells_of_another_slice_and_other_genes(study):
    spots = pseudo_spots(study["a"], "cell_type", layout=LAYOUT)
    reference = study["b"][:, ::-1][:, :70].copy()
    before = spots.copy()
    told = deconvolve(spots, reference, "cell_type", method=SignaturePoisson())
    scores = proportion_scores(spots.obsm["proportions"], told.obsm["stgraph_predicted_proportions"])
    assert scores["pearson"] > 0.5
    assert told.uns["stgraph_predicted_proportions"] == sorted(reference.obs["cell_type"].unique())
    assert "stgraph_predicted_proportions" not in before.obsm
    with pytest.raises(InputError, match="has 0 classes"):
        deconvolve(spots, reference, "nothing")
    reference.var_names = [f"{gene}{'' if i < 5 else '-other'}" for i, gene in enumerate(reference.var_names)]
    with pytest.raises(InputError, match="share only 5 genes"):
        deconvolve(spots, reference, "cell_type")


def test_config():
    task = instantiate(yaml.safe_load((config_dir() / "task" / "deconvolution.yaml").read_text()))
    assert task == Deconvolution()
    assert instantiate(to_config(task)) == task


@pytest.mark.real
def test_signatures_tell_spots_of_another_animal(data_dir):
    path = data_dir / "merfish_hypothalamus" / "merfish_hypothalamus_3slices.h5ad"
    slices = split_slices([stgraph.read(path, slice_key="sample", um_per_unit=1.0, keep="cell_type != 'Ambiguous'")])
    split = LeaveOneSliceOut("animal")
    told = Deconvolution().run(slices, SignaturePoisson(), split=split)
    mean = Deconvolution().run(slices, Constant(), split=split)
    assert (value(told) < 0.6 * value(mean)).all()
    assert value(told, "pearson").min() > 0.5
