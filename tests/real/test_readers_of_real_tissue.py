"""Every file of real tissue reads; numbers are those of its index."""

import warnings

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import stgraph
from stgraph.errors import StgraphWarning
from stgraph.graph.spacing import median_spacing
from stgraph.io.slices import split_slices
from stgraph.preprocess.encoder import LogPCA

pytestmark = pytest.mark.real

SHAPES = {
    "dlpfc/dlpfc_151673": (3639, 8513),
    "dlpfc/dlpfc_151675": (3592, 8597),
    "starmap_mvc/starmap_mvc_BY3_1k": (1207, 1020),
    "osmfish/osmfish_ss_cortex_all6471": (6471, 33),
    "merfish_hypothalamus/merfish_hypothalamus_3slices": (17396, 135),
    "her2st/her2st_A1": (346, 15045),
    "her2st/her2st_B1": (295, 15109),
    "her2st/her2st_C1": (176, 15557),
    "her2st/her2st_C2": (187, 15706),
    "her2st/her2st_C3": (180, 15821),
    "her2st/her2st_C4": (184, 15842),
    "her2st/her2st_D1": (306, 15661),
    "breast_xenium_visium/xenium_breast_roi": (17136, 313),
    "breast_xenium_visium/visium_breast_roi": (709, 18085),
}


def quietly(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StgraphWarning)
        return stgraph.read(path, **options)


def test_every_file_is_known(data_dir):
    found = {str(path.relative_to(data_dir).with_suffix("")) for path in data_dir.rglob("*.h5ad")}
    assert found == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_every_file_reads(data_dir, name):
    path = data_dir / f"{name}.h5ad"
    adata = quietly(path)
    assert adata.shape == SHAPES[name]
    assert isinstance(adata.X, sp.csr_matrix)
    assert adata.X.dtype == np.int32
    assert adata.obsm["spatial"].shape == (adata.n_obs, 2)
    assert adata.uns["stgraph"]["unit"] == ("um" if "dlpfc" in name else "unknown")
    stored = ad.read_h5ad(path)
    assert (stored.X != adata.X).nnz == 0
    assert set(stored.obs) <= set(adata.obs)


@pytest.mark.parametrize("name", ["dlpfc_151673", "dlpfc_151675"])
def test_visium_spots_are_100_microns_apart(data_dir, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adata = stgraph.read(data_dir / "dlpfc" / f"{name}.h5ad")
    assert adata.uns["stgraph"]["unit_source"] == "visium array"
    assert median_spacing(adata.obsm["spatial"]) == pytest.approx(100, abs=2)
    # About 137 pixels between neighbours.
    assert adata.uns["stgraph"]["um_per_unit"] == pytest.approx(100 / 137, rel=0.02)


def test_merfish_is_three_slices(data_dir):
    path = data_dir / "merfish_hypothalamus" / "merfish_hypothalamus_3slices.h5ad"
    with pytest.warns(StgraphWarning, match=r"obs\['sample'\] has 3 values.*--slice-key sample"):
        stgraph.read(path, um_per_unit=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = split_slices([stgraph.read(path, um_per_unit=1.0, slice_key="sample")])
    assert len(parts) == 3
    assert sum(part.n_obs for part in parts.values()) == 17396
    for name, part in parts.items():
        assert set(part.obs["sample"].astype(str)) == {name}


def test_duplicate_cells_of_osmfish_do_not_break_the_graph(data_dir):
    adata = quietly(data_dir / "osmfish" / "osmfish_ss_cortex_all6471.h5ad")
    assert adata.obs["is_duplicate"].astype(bool).sum() == 527
    graph = stgraph.build_graph(adata)
    assert len(graph) == 6471
    assert np.isfinite(graph.x).all()
    assert graph.spacing > 0
    assert np.diff(graph.near.indptr).min() >= 1
    # A duplicate lies where its original lies: they are neighbours, at no distance.
    assert (graph.near.data == 0).sum() >= 527
    assert (graph.near != graph.near.T).nnz == 0


def test_slices_of_other_genes_share_what_they_share(data_dir):
    slices = [quietly(data_dir / "dlpfc" / f"dlpfc_{number}.h5ad") for number in (151673, 151675)]
    encoder = LogPCA(n_components=10, n_top_genes=500).fit(slices)
    assert set(encoder.genes) == set(slices[0].var_names) & set(slices[1].var_names)
    for adata in slices:
        x = encoder.transform(adata)
        assert np.isfinite(x).all()
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-3)


@pytest.mark.parametrize("name", ["A1", "B1", "C1", "D1"])
def test_nearly_empty_spots_have_finite_features(data_dir, name):
    adata = quietly(data_dir / "her2st" / f"her2st_{name}.h5ad")
    x = LogPCA(n_components=10).fit([adata]).transform(adata)
    assert np.isfinite(x).all()
