import functools

import anndata as ad
import numpy as np
import pytest

import stgraph
from stgraph.errors import InputError
from stgraph.graph.builders import KNN, Radius
from stgraph.models.pair_scope import CompletePairs
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.training.loop import Trainer

QUICK = Trainer(max_steps=3)


def test_what_comes_out(fitted, slices):
    for adata, before in zip(fitted.adatas.values(), slices, strict=True):
        assert adata.obsm["X_stgraph"].shape == (before.n_obs, 64)
        assert adata.obsm["X_stgraph"].dtype == np.float32
        assert adata.obs["stgraph_domain"].cat.categories.tolist() == [str(d) for d in range(8)]
        assert (adata.X != before.X).nnz == 0
        assert adata.uns["stgraph"]["version"] == stgraph.__version__
        assert '"max_steps": 12' in adata.uns["stgraph"]["parameters"]
    assert len(fitted.history) == 12
    assert set(fitted.timings) == {"check", "encode", "graph", "partition", "train", "embed", "domains"}
    assert fitted.settings["builder"]["n_neighbors"] == KNN().n_neighbors


def test_everything_survives_a_file(fitted, tmp_path):
    adata = fitted.adatas["synthetic_0"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(again.obsm["X_stgraph"], adata.obsm["X_stgraph"])
    assert again.obs["stgraph_domain"].tolist() == adata.obs["stgraph_domain"].tolist()
    assert again.uns["stgraph"]["parameters"] == adata.uns["stgraph"]["parameters"]
    assert again.uns["spatial_neighbors"]["params"]["n_neighbors"] == KNN().n_neighbors


def test_the_input_is_not_changed(slices):
    before = [(set(s.obs), set(s.obsm), set(s.uns["stgraph"]), s.X.copy()) for s in slices]
    stgraph.fit(slices, trainer=QUICK, progress=False)
    for adata, (obs, obsm, uns, counts) in zip(slices, before, strict=True):
        assert (set(adata.obs), set(adata.obsm), set(adata.uns["stgraph"])) == (obs, obsm, uns)
        assert (counts != adata.X).nnz == 0


def test_one_seed_one_result(slices):
    four_steps = {"_target_": "stgraph.training.loop.Trainer", "max_steps": 4}
    first, second, other = (
        stgraph.fit(slices, trainer=four_steps, random_state=seed, progress=False) for seed in (0, 0, 1)
    )
    for name, adata in first.adatas.items():
        np.testing.assert_array_equal(adata.obsm["X_stgraph"], second.adatas[name].obsm["X_stgraph"])
        assert adata.obs["stgraph_domain"].tolist() == second.adatas[name].obs["stgraph_domain"].tolist()
        assert not np.allclose(adata.obsm["X_stgraph"], other.adatas[name].obsm["X_stgraph"])
    for part in ("encoder", "virtual_cells", "partitioner", "trainer", "domains"):
        assert other.settings[part]["random_state"] == 1


def test_parts_may_be_objects_configs_or_absent(tissue):
    result = stgraph.fit(
        tissue,
        builder=Radius(25.0),
        virtual_cells=None,
        partitioner={"_target_": "stgraph.partition.spatial.CoordinateBisection", "part_size": 100},
        model=functools.partial(SE2Transformer, hidden_channels=16, num_layers=2),
        objectives=[MaskedCell(0.5)],
        trainer=QUICK,
        domains={"_target_": "stgraph.tasks.domains.MixtureDomains", "n_domains": 3},
        progress=False,
    )
    adata = result.adatas["synthetic_0"]
    assert adata.obsm["X_stgraph"].shape[1] == 16
    assert adata.obsp["spatial_distances"].max() <= 25.0
    assert "stgraph_virtual_cell" not in adata.obs
    assert "masked_cell" in result.history[0]
    assert "distance_recovery" not in result.history[0]


def test_a_model_of_whole_parts_is_given_those_it_was_trained_on(tissue):
    """With the box of the slice, without which ``unit="diagonal"`` has no unit, and without hops."""
    shapes = []

    class Seen(MaskedCell):
        def corrupt(self, batch, generator):
            shapes.append((batch["cell"].num_nodes, int(batch["cell"].owned.sum())))
            return super().corrupt(batch, generator)

    cut = CoordinateBisection(100)
    model = functools.partial(
        SToFMSE2, hidden_channels=8, num_layers=1, heads=2, ffn_channels=8, scope=CompletePairs(unit="diagonal")
    )
    result = stgraph.fit(
        tissue, model=model, partitioner=cut, objectives=[Seen()], trainer=QUICK, domains=None, progress=False
    )
    partition = cut(result.graphs["synthetic_0"])
    sizes = {len(partition.cells(number)) for number in range(partition.num_parts)}
    assert all(nodes == owned and nodes in sizes for nodes, owned in shapes)
    assert result.pretrained.partitioner is cut
    assert result.settings["num_hops"] == 0


def test_a_model_of_neighbourhoods_is_cut_as_before(fitted):
    assert fitted.pretrained.partitioner is None
    assert fitted.settings["num_hops"] == 1


def test_raw_anndata_is_checked_first(tissue):
    del tissue.uns["stgraph"], tissue.obs["slice_id"]
    with pytest.warns(stgraph.errors.StgraphWarning, match="unit of the coordinates is unknown"):
        result = stgraph.fit(tissue, trainer=QUICK, progress=False)
    assert list(result.adatas) == ["slice_0"]


def test_no_slices():
    with pytest.raises(InputError, match="No slice"):
        stgraph.fit([])


def test_slices_of_different_size_and_panel(slices):
    small = slices[1][:150, 10:].copy()
    result = stgraph.fit([slices[0], small], trainer=QUICK, progress=False)
    assert len(result.pretrained.encoder.genes) == slices[0].n_vars - 10


def test_more_domains_than_cells_are_refused_before_training(tissue):
    class NoTrainer(Trainer):
        def fit(self, *_, **__):
            raise AssertionError("trained all the same")

    domains = {"_target_": "stgraph.tasks.domains.MixtureDomains", "n_domains": tissue.n_obs + 1}
    with pytest.raises(InputError, match="cannot be split into 321 domains"):
        stgraph.fit(tissue, domains=domains, trainer=NoTrainer(), progress=False)
