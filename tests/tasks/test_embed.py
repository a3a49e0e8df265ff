import json
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

import stgraph
from stgraph.errors import CheckpointError, InputError, StgraphWarning, TrustError


def test_training_slices_come_out_as_fit_wrote_them(fitted, slices):
    for adata in slices:
        embedded = stgraph.embed(adata, fitted.pretrained)
        expected = fitted.adatas[adata.obs["slice_id"].iloc[0]]
        np.testing.assert_array_equal(embedded.obsm["X_stgraph"], expected.obsm["X_stgraph"])
        assert embedded.obs["stgraph_domain"].tolist() == expected.obs["stgraph_domain"].tolist()


def test_several_slices_in_one_anndata_are_the_slices_alone(fitted, slices):
    together = ad.concat(slices, join="inner", index_unique=None)
    together.uns["stgraph"] = slices[0].uns["stgraph"]
    shuffled = together[np.random.default_rng(0).permutation(together.n_obs)].copy()
    embedded = stgraph.embed(shuffled, fitted.pretrained)
    for adata in slices:
        part = embedded[adata.obs_names]
        expected = fitted.adatas[adata.obs["slice_id"].iloc[0]]
        np.testing.assert_allclose(part.obsm["X_stgraph"], expected.obsm["X_stgraph"], atol=2e-5)
        assert (part.obs["stgraph_domain"].astype(str) == expected.obs["stgraph_domain"].astype(str)).mean() > 0.99


def test_a_moved_slice_has_the_same_embedding(fitted, tissue):
    expected = stgraph.embed(tissue, fitted.pretrained).obsm["X_stgraph"]
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1.0, -1.0])
    tissue.obsm["spatial"] = tissue.obsm["spatial"] @ turn.T + 1e5
    np.testing.assert_allclose(stgraph.embed(tissue, fitted.pretrained).obsm["X_stgraph"], expected, atol=1e-4)


def test_permuted_cells_have_permuted_embeddings(fitted, tissue):
    expected = stgraph.embed(tissue, fitted.pretrained)
    order = np.random.default_rng(0).permutation(tissue.n_obs)
    permuted = stgraph.embed(tissue[order].copy(), fitted.pretrained)
    np.testing.assert_allclose(permuted.obsm["X_stgraph"], expected.obsm["X_stgraph"][order], atol=2e-5)


def test_parts_with_halo_change_nothing(fitted):
    for name, graph in fitted.graphs.items():
        in_parts = fitted.pretrained.embed_graph(graph, part_size=70)
        np.testing.assert_allclose(in_parts, fitted.adatas[name].obsm["X_stgraph"], atol=2e-5)


def test_results_of_an_earlier_run_do_not_stay(fitted, tissue):
    once = stgraph.embed(tissue, fitted.pretrained)
    without = replace(fitted.pretrained, virtual_cells=None, domains=None)
    twice = stgraph.embed(once, without)
    assert "stgraph_domain" not in twice.obs
    assert "stgraph_virtual_cell" not in twice.obs


def test_counts_changed_since_they_were_read_are_refused(fitted, tissue):
    tissue.X = tissue.X.astype(float)
    tissue.X.data = np.log1p(tissue.X.data)
    with pytest.raises(InputError, match="holds fractions"):
        stgraph.embed(tissue, fitted.pretrained)


@pytest.fixture
def foreign(fitted, tmp_path):
    """A model directory that names a class of another package."""
    fitted.pretrained.save(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text())
    config["parts"]["model"]["_target_"] = "elsewhere.Model"
    path.write_text(json.dumps(config))
    return tmp_path / "m"


def test_code_of_others_is_not_run_unless_trusted(foreign, tissue):
    with pytest.raises(TrustError, match="pass --trust elsewhere"):
        stgraph.embed(tissue, foreign)
    with pytest.raises(CheckpointError, match="cannot be imported"):
        stgraph.embed(tissue, foreign, trust=["elsewhere"])


def test_missing_genes_are_said(fitted, tissue):
    with pytest.warns(StgraphWarning, match="lacks 5 of the"):
        embedded = stgraph.embed(tissue[:, 5:].copy(), fitted.pretrained)
    assert np.isfinite(embedded.obsm["X_stgraph"]).all()


def test_foreign_genes(fitted, tissue):
    tissue.var_names = [f"other{i}" for i in range(tissue.n_vars)]
    with pytest.raises(InputError, match="has only 0 of the model's"):
        stgraph.embed(tissue, fitted.pretrained)


def test_the_input_is_not_changed(fitted, tissue):
    stgraph.embed(tissue, fitted.pretrained)
    assert "X_stgraph" not in tissue.obsm
