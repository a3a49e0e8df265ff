from dataclasses import dataclass

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.spatial.distance import cdist

from stgraph._config import config_dir, instantiate, to_config
from stgraph.errors import InputError
from stgraph.tasks.apart import Apart
from stgraph.tasks.composition import NeighborhoodComposition, neighborhood_composition
from stgraph.tasks.density import CellDensity, cell_density
from stgraph.tasks.splits import LeaveOneSliceOut, RandomCells, SpatialBlocks
from stgraph.tasks.surroundings import radius_for_mean_neighbors


@dataclass
class Planted:
    """Knows the answer by the names of cells, for a task shows it nothing else."""

    rows: pd.DataFrame

    def fit(self, slices):
        return self

    def transform(self, adata):
        return self.rows.loc[adata.obs_names].to_numpy(dtype=np.float32)


def planted(study, of):
    return Planted(pd.concat([pd.DataFrame(of[name], index=adata.obs_names) for name, adata in study.items()]))


@pytest.fixture
def study(slices):
    return dict(zip("ab", slices, strict=True))


def value(result, metric):
    return result.table[result.table["metric"] == metric].set_index("slice")["value"]


def near(adata, radius):
    pos = adata.obsm["spatial"]
    return (cdist(pos, pos) <= radius) & ~np.eye(len(pos), dtype=bool)


def test_density_is_the_number_of_others_within_the_radius(tissue):
    np.testing.assert_array_equal(cell_density(tissue, 25.0), near(tissue, 25.0).sum(axis=1))
    radius = radius_for_mean_neighbors(tissue, 20)
    np.testing.assert_array_equal(cell_density(tissue, mean_neighbors=20), near(tissue, radius).sum(axis=1))
    assert cell_density(tissue, mean_neighbors=20).mean() == pytest.approx(20, abs=0.1)


def test_composition_is_the_share_of_each_type_around(tissue):
    tissue.obs["cell_type"] = tissue.obs["cell_type"].astype(object)
    tissue.obs.loc[tissue.obs_names[:50], "cell_type"] = None
    tissue.obsm["spatial"][100] = tissue.obsm["spatial"].max(axis=0) + 1e4
    found = neighborhood_composition(tissue, "cell_type", 40.0)
    onehot = pd.get_dummies(tissue.obs["cell_type"]).astype(float)
    counts = near(tissue, 40.0) @ onehot.to_numpy()
    total = counts.sum(axis=1, keepdims=True)
    expected = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    assert list(found.columns) == list(onehot.columns)
    assert found.index.equals(tissue.obs_names)
    np.testing.assert_allclose(found.to_numpy(), expected)
    assert found.iloc[100].isna().all()
    assert found.iloc[:50].notna().any().any()


def test_sections_do_not_see_each_other(slices):
    joined = anndata.concat(slices, uns_merge="first")
    np.testing.assert_array_equal(
        cell_density(joined, 25.0), np.concatenate([cell_density(adata, 25.0) for adata in slices])
    )
    np.testing.assert_allclose(
        neighborhood_composition(joined, "cell_type", mean_neighbors=10),
        pd.concat([neighborhood_composition(adata, "cell_type", mean_neighbors=10) for adata in slices]),
    )
    with pytest.raises(InputError, match="Each section has a radius of its own"):
        radius_for_mean_neighbors(joined, 10)


def test_microns_mean_nothing_where_the_unit_is_unknown(tissue):
    tissue.uns["stgraph"]["unit"] = "unknown"
    with pytest.raises(InputError, match=r"25 microns has no meaning.*mean_neighbors instead"):
        cell_density(tissue, 25.0)
    with pytest.raises(InputError, match="no meaning"):
        neighborhood_composition(tissue, "cell_type", 25.0)
    with pytest.raises(InputError, match="no meaning"):
        CellDensity().run({"a": tissue}, Planted(pd.DataFrame()), split=SpatialBlocks())
    assert cell_density(tissue, mean_neighbors=10).mean() == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("task", [CellDensity(), NeighborhoodComposition(mean_neighbors=10)], ids=lambda t: t.name)
def test_a_description_that_holds_the_answer_is_right_and_a_shuffled_one_is_not(study, task):
    rng = np.random.default_rng(0)
    target = task.target(study)
    answer = {name: np.nan_to_num(values) for name, values in target.of.items()}
    right = task.run(study, planted(study, answer), split=LeaveOneSliceOut())
    assert (value(right, "r2") > 0.99).all()
    assert (value(right, "mae") < 0.05 * np.nanmean(target.of["a"])).all()
    assert right.adatas["a"].obsm[f"stgraph_predicted_{target.name}"].shape == target.of["a"].shape
    assert set(right.table["task"]) == {task.name}
    shuffled = {name: rng.permutation(values) for name, values in answer.items()}
    wrong = task.run(study, planted(study, shuffled), split=LeaveOneSliceOut())
    assert (value(wrong, "r2") < 0.1).all()
    assert (value(wrong, "pearson").abs() < 0.25).all()


def test_no_cell_is_counted_for_learning_and_for_judging(study):
    split = Apart(SpatialBlocks(buffer=0.0), {"a": 30.0, "b": 10.0})
    for name, radius in (("a", 30.0), ("b", 10.0)):
        around = near(study[name], radius) | np.eye(study[name].n_obs, dtype=bool)
        for fold in split.folds(study):
            for masks in (fold.train, fold.validation):
                if name in masks:
                    learnt = around[masks[name]].any(axis=0)
                    assert not (learnt & around[fold.test[name]].any(axis=0)).any()
            assert fold.train[name].any()
    assert len(split.notes) == 5
    assert "share neighbours with judged ones and were left out" in split.notes[0]


def test_cells_far_enough_are_kept(study):
    plain = SpatialBlocks().folds(study)
    for before, after in zip(plain, Apart(SpatialBlocks(), {"a": 1e-3, "b": 1e-3}).folds(study), strict=True):
        for name, mask in before.train.items():
            np.testing.assert_array_equal(mask, after.train[name])
    whole = LeaveOneSliceOut()
    for before, after in zip(whole.folds(study), Apart(whole, {"a": 1e6, "b": 1e6}).folds(study), strict=True):
        assert list(before.train) == list(after.train)


def test_a_split_that_leaks_is_left_and_says_so(study):
    split = Apart(RandomCells(), {"a": 1e6, "b": 1e6})
    assert split.leaks
    assert split.folds(study)[0].train["a"].sum() == RandomCells().folds(study)[0].train["a"].sum()
    assert split.notes == ["learnt and judged cells have neighbours in common, as the split leaks"]


def test_a_radius_as_large_as_the_slice_is_refused(study):
    model = planted(study, {name: np.zeros((adata.n_obs, 2)) for name, adata in study.items()})
    with pytest.raises(InputError, match="farther than two radii"):
        CellDensity(radius=1e4).run(study, model, split=SpatialBlocks())


def test_types_are_those_of_all_slices(study):
    study["b"].obs["cell_type"] = "only here"
    target = NeighborhoodComposition(mean_neighbors=10).target(study)
    assert "only here" in target.names
    assert len(target.names) == study["a"].obs["cell_type"].nunique() + 1
    assert (target.of["a"][:, target.names.index("only here")] == 0).all()
    del study["b"].obs["cell_type"]
    assert not NeighborhoodComposition(mean_neighbors=10).target(study).known("b").any()


@pytest.mark.parametrize("cls", [CellDensity, NeighborhoodComposition])
def test_arguments(cls):
    assert instantiate(to_config(cls())) == cls()
    with pytest.raises(InputError, match="not both"):
        cls(radius=3.0, mean_neighbors=3.0)
    with pytest.raises(InputError, match="not none of them"):
        cls(radius=None, mean_neighbors=None)
    with pytest.raises(InputError, match="positive radius, not -1"):
        cls(radius=-1.0, mean_neighbors=None)
    with pytest.raises(InputError, match="positive mean_neighbors, not 'x'"):
        cls(radius=None, mean_neighbors="x")


@pytest.mark.parametrize("task", [CellDensity(), NeighborhoodComposition()], ids=lambda task: task.name)
def test_the_file_and_the_constructor_say_the_same(task):
    config = yaml.safe_load((config_dir() / "task" / f"{task.name}.yaml").read_text())
    assert config == to_config(task)
