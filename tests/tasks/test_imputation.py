import numpy as np
import pytest
import scipy.sparse as sp
import yaml
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from stgraph._config import config_dir, instantiate, to_config
from stgraph.baselines import Constant
from stgraph.errors import InputError
from stgraph.metrics.genes import gene_scores
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.imputation import Imputation
from stgraph.tasks.impute import impute
from stgraph.tasks.splits import LeaveOneSliceOut, SpatialBlocks

BLOCKS = SpatialBlocks(n_blocks=6, n_folds=3, buffer=1.0)
ENCODER = LogPCA(n_components=80, whiten=False)


@pytest.fixture
def study(slices):
    return dict(zip("ab", slices, strict=True))


def planted(adata):
    """A slice where log values are exact, gene 0 is told by the others, and gene 1 by nothing."""
    rng = np.random.default_rng(len(adata.obs_names[0]))
    n = adata.n_obs
    kind = rng.integers(0, 2, n)
    counts = np.full((n, 20), 1000)
    counts[:, 2:8] += np.where(kind, 400, -400)[:, None]
    counts[:, 8:14] -= np.where(kind, 400, -400)[:, None]  # the depth is the same everywhere
    counts[:, 0] = np.where(kind, 900, 100)
    counts[:, 1] = rng.integers(100, 900, n)
    out = adata[:, :20].copy()
    out.X = sp.csr_matrix(counts.astype(np.int32))
    return out


def test_a_gene_that_others_tell_is_told_and_noise_is_not(study):
    study = {name: planted(adata) for name, adata in study.items()}
    genes = study["a"].var_names[:2].tolist()
    for split in (BLOCKS, LeaveOneSliceOut(buffer=1.0)):
        result = Imputation(genes=genes).run(study, ENCODER, split=split)
        pearson = result.by_gene.set_index(["gene", "slice"])["pearson"]
        assert pearson[genes[0]].min() > 0.99
        assert pearson[genes[1]].abs().max() < 0.2
        means = result.table[result.table["metric"] == "gene_pearson"].set_index("slice")["value"]
        assert means["a"] == pytest.approx(pearson[:, "a"].mean())


def test_held_out_counts_of_judged_cells_change_no_prediction(study):
    genes = study["a"].var_names[:6].tolist()
    task, split = Imputation(genes=genes), LeaveOneSliceOut(buffer=1.0)
    before = task.run(study, ENCODER, split=split)
    changed = study["a"].copy()
    counts = changed.X.toarray()
    counts[:, :6] = np.random.default_rng(0).poisson(80, (changed.n_obs, 6))
    changed.X = sp.csr_matrix(counts)
    after = task.run({"a": changed, "b": study["b"]}, ENCODER, split=split)
    said = [result.adatas["a"].obsm["stgraph_predicted_genes"] for result in (before, after)]
    np.testing.assert_array_equal(*said)
    # The truth did change, so the test would see a leak.
    assert not np.allclose(before.by_gene["rmse"][:6], after.by_gene["rmse"][:6])


def test_a_model_never_sees_what_is_held_out(study):
    genes = study["a"].var_names[[2, 5]].tolist()
    shown = []

    class Nosy(Constant):
        def fit(self, slices):
            shown.extend(slices)
            return self

        def transform(self, adata):
            shown.append(adata)
            return super().transform(adata)

    for adata in study.values():
        adata.obs["depth"] = np.asarray(adata.X.sum(axis=1)).ravel()
        adata.layers["counts"] = adata.X.copy()
    Imputation(genes=genes).run(study, Nosy(), split=BLOCKS)
    assert shown
    for adata in shown:
        assert not set(genes) & set(adata.var_names)
        assert list(adata.obs) == ["slice_id"]
        assert not adata.layers


def test_genes_are_dealt_by_seed_and_none_twice(study):
    task = Imputation(share=0.3, n_rounds=3)
    rounds, notes = task.rounds(study)
    flat = [gene for held in rounds for gene in held]
    assert len(flat) == len(set(flat))
    assert len({len(held) for held in rounds}) == 1
    assert not notes
    assert task.rounds(study)[0] == rounds
    assert task.rounds(study, random_state=1)[0] != rounds
    counts = study["b"].X.toarray()
    counts[:, 7] = 0
    study["b"].X = sp.csr_matrix(counts)
    assert study["a"].var_names[7] not in {g for held in Imputation(share=0.5).rounds(study)[0] for g in held}
    fewer, notes = Imputation(max_genes=4).rounds(study)
    assert {len(held) for held in fewer} == {4}
    assert "max_genes says so" in notes[0]


def test_every_round_and_gene_is_scored(study):
    result = Imputation(max_genes=5).run(study, ENCODER, split=BLOCKS)
    assert len(result.by_gene) == 2 * 2 * 5
    assert result.by_gene["round"].nunique() == 2
    said = result.adatas["b"].obsm["stgraph_predicted_genes"]
    assert said.shape == (320, 10)
    assert result.adatas["b"].uns["stgraph_predicted_genes"] == result.by_gene["gene"][:10].tolist()
    table = result.table.set_index(["slice", "metric"])
    of_b = result.by_gene[result.by_gene["slice"] == "b"]
    assert table.loc[("b", "gene_spearman_median"), "value"] == pytest.approx(of_b["spearman"].median())
    assert (table["low"] <= table["value"]).all()


def test_the_mean_tells_nothing_of_cells(study):
    result = Imputation(max_genes=5, n_rounds=1).run(study, Constant(), split=BLOCKS)
    # By blocks the mean differs from fold to fold, and tends to be lower where the judged cells are higher.
    assert (result.by_gene["pearson"].abs() < 0.15).all()
    other = Imputation(max_genes=5, n_rounds=1).run(study, Constant(), split=LeaveOneSliceOut(buffer=1.0))
    np.testing.assert_array_equal(other.by_gene["pearson"], 0.0)


def test_heads_can_be_named(study):
    task = Imputation(max_genes=5, n_rounds=1, heads=[KNeighborsRegressor(30)])
    result = task.run(study, LogPCA(n_components=10, whiten=False), split=BLOCKS)
    assert any("KNeighborsRegressor" in note for note in result.notes)
    ridge = Imputation(max_genes=5, n_rounds=1).run(study, LogPCA(n_components=10, whiten=False), split=BLOCKS)
    assert not np.allclose(result.by_gene["pearson"], ridge.by_gene["pearson"])


def test_bad_settings_are_said(study):
    with pytest.raises(InputError, match="holding out one twice"):
        Imputation(share=0.5, n_rounds=3)
    with pytest.raises(InputError, match="share between 0 and 1"):
        Imputation(share=2.0)
    with pytest.raises(InputError, match="each named once"):
        Imputation(genes=["a", "a"])
    with pytest.raises(InputError, match="1 genes to hold out are not in every slice: nope"):
        Imputation(genes=["nope"]).rounds(study)
    with pytest.raises(InputError, match="leaves fewer than 10 to see"):
        Imputation(genes=study["a"].var_names[:75].tolist()).rounds(study)
    with pytest.raises(InputError, match="No gene can be held out"):
        Imputation(min_detected=0.999).rounds(study)


def test_config():
    task = instantiate(yaml.safe_load((config_dir() / "task" / "imputation.yaml").read_text()))
    assert task == Imputation()
    assert instantiate(to_config(task)) == task


def test_impute_tells_genes_and_how_well(slices, tmp_path):
    tissue, reference = slices
    lacking = tissue[:, 8:].copy()
    told = impute(lacking, reference, encoder=ENCODER)
    table, accuracy = told.obsm["stgraph_imputed"], told.uns["stgraph_imputed"]
    assert list(table.columns) == tissue.var_names[:8].tolist() == accuracy.index.tolist()
    found = gene_scores(np.log1p(tissue.X[:, :8].toarray()), table.to_numpy())
    assert np.mean(found["pearson"]) > 0.25
    # Blocks of a small fold of cortex lack whole layers, so what they promise is less.
    assert 0 < accuracy["pearson"].mean() < np.mean(found["pearson"]) + 0.05
    assert "stgraph_imputed" not in lacking.obsm
    told.write_h5ad(tmp_path / "told.h5ad")


def test_impute_leaves_reference_slices_out_in_turn(slices):
    tissue, reference = slices
    other = reference.copy()
    other.obs["slice_id"] = other.obs["slice_id"].cat.rename_categories(["copy"])
    gene = tissue.var_names[0]
    told = impute(tissue[:, 1:].copy(), [reference, other], genes=[gene], heads=[Ridge(1.0)])
    assert told.obsm["stgraph_imputed"].shape == (320, 1)
    assert told.uns["stgraph_imputed"].shape == (1, 3)


def test_impute_refuses_what_makes_no_sense(slices):
    tissue, reference = slices
    with pytest.raises(InputError, match="has all genes of the reference"):
        impute(tissue, reference)
    with pytest.raises(InputError, match="the slice has Exc-L23-1 already"):
        impute(tissue, reference, genes=["Exc-L23-1"])
    with pytest.raises(InputError, match="not in every slice of the reference: nope"):
        impute(tissue, reference, genes=["nope"])
    with pytest.raises(InputError, match="share only 3 genes"):
        tissue.var_names = [f"{gene}{'' if i < 3 else '-other'}" for i, gene in enumerate(tissue.var_names)]
        impute(tissue, reference)
