import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import stgraph
from stgraph.errors import InputError, StgraphWarning
from stgraph.io.read import canonicalize


@pytest.fixture
def path(tmp_path, tissue):
    tissue.write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


def test_a_file_becomes_canonical(path, tissue):
    adata = stgraph.read(path)
    assert isinstance(adata.X, sp.csr_matrix)
    assert adata.X.dtype == np.int32
    assert (adata.X != tissue.X).nnz == 0
    np.testing.assert_array_equal(adata.obsm["spatial"], tissue.obsm["spatial"])
    assert set(adata.obs["slice_id"]) == {"synthetic_0"}
    assert adata.uns["stgraph"] == {"um_per_unit": 1.0, "unit": "um", "unit_source": "file"}


def test_reading_twice_changes_nothing(path, tmp_path, tissue):
    del tissue.uns["stgraph"]
    tissue.write_h5ad(path)
    once = stgraph.read(path, um_per_unit=0.5)
    once.write_h5ad(tmp_path / "b.h5ad")
    twice = stgraph.read(tmp_path / "b.h5ad")
    np.testing.assert_array_equal(once.obsm["spatial"], twice.obsm["spatial"])
    assert twice.uns["stgraph"]["um_per_unit"] == 0.5
    assert (once.X != twice.X).nnz == 0
    with pytest.raises(InputError, match="in microns already"):
        stgraph.read(tmp_path / "b.h5ad", um_per_unit=0.5)


def test_the_callers_adata_is_not_changed(tissue):
    del tissue.uns["stgraph"], tissue.obs["slice_id"]
    tissue.X = tissue.X.astype(np.float32)
    before = tissue.copy()
    out = canonicalize(tissue, um_per_unit=3.0)
    out.X.data[:] = 7
    out.obs["new"] = out.var["new"] = 1
    out.obsm["spatial"][:] = 0
    out.uns["new"] = 1
    assert (tissue.X != before.X).nnz == 0
    assert tissue.X.dtype == np.float32
    assert tissue.obs.equals(before.obs)
    assert tissue.var.equals(before.var)
    assert set(tissue.uns) == {"organism"}
    np.testing.assert_array_equal(tissue.obsm["spatial"], before.obsm["spatial"])


def test_everything_else_is_kept(tissue):
    tissue.raw = tissue.copy()
    tissue.layers["other"] = tissue.X.copy()
    tissue.layers["counts"] = tissue.X.copy()
    tissue.obsm["X_pca"] = np.ones((tissue.n_obs, 2))
    tissue.varm["PCs"] = np.ones((tissue.n_vars, 2))
    tissue.obsp["graph"] = sp.eye(tissue.n_obs, format="csr")
    out = canonicalize(tissue, layer="counts", keep="domain != 'WM'")
    assert out.n_obs == (tissue.obs["domain"] != "WM").sum() < tissue.n_obs
    assert set(out.layers) == {"other"}
    assert set(out.obsm) == {"X_pca", "spatial"}
    assert set(out.varm) == {"PCs"}
    assert out.obsp["graph"].shape == (out.n_obs, out.n_obs)
    assert out.raw.shape == out.shape
    assert {"domain", "cell_type"} <= set(out.obs)
    assert out.uns["organism"] == "synthetic"


def test_query_keeps_cells(path, tissue):
    kept = stgraph.read(path, keep="domain == 'L4' and cell_type != 'Ast'")
    expected = tissue.obs_names[(tissue.obs["domain"] == "L4") & (tissue.obs["cell_type"] != "Ast")]
    assert list(kept.obs_names) == list(expected)


@pytest.mark.parametrize("query", ["nix == 1", "domain ==", "", "3"])
def test_a_query_that_cannot_be_evaluated(path, query):
    with pytest.raises(InputError, match=r"a: the query .* cannot be evaluated over obs"):
        stgraph.read(path, keep=query)


def test_a_query_that_keeps_nothing(path, tissue):
    with pytest.raises(InputError, match=f"keeps no cell of {tissue.n_obs}"):
        stgraph.read(path, keep="domain == 'nix'")


def test_slice_key_and_unit_are_passed_on(path, tissue):
    del tissue.uns["stgraph"]
    tissue.write_h5ad(path)
    adata = stgraph.read(path, slice_key="cell_type", um_per_unit=2.0)
    assert adata.obs["slice_id"].nunique() > 2
    assert adata.uns["stgraph"]["unit_source"] == "option"


def test_unknown_unit_is_said(tmp_path, tissue):
    del tissue.uns["stgraph"]
    tissue.write_h5ad(tmp_path / "b.h5ad")
    with pytest.warns(StgraphWarning, match="b: the unit of the coordinates is unknown"):
        adata = stgraph.read(tmp_path / "b.h5ad")
    adata.write_h5ad(tmp_path / "c.h5ad")
    with pytest.warns(StgraphWarning, match="unknown"):  # and not forgotten by writing
        stgraph.read(tmp_path / "c.h5ad")


def test_what_is_no_h5ad(tmp_path, path):
    whole = path.read_bytes()
    (tmp_path / "text.h5ad").write_text("cells")
    (tmp_path / "half.h5ad").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.h5ad").touch()
    for name in ("text", "half", "empty"):
        with pytest.raises(InputError, match=rf"{name}.h5ad' is not a readable h5ad file") as caught:
            stgraph.read(tmp_path / f"{name}.h5ad")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        stgraph.read(tmp_path / "nix.h5ad")
    with pytest.raises(InputError, match="is a folder"):
        stgraph.read(tmp_path)


def test_a_hole_in_the_file_is_found(tmp_path, path):
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 3 : len(whole) // 2] = b"\0" * (len(whole) // 2 - len(whole) // 3)
    (tmp_path / "hole.h5ad").write_bytes(whole)
    with pytest.raises(InputError):
        stgraph.read(tmp_path / "hole.h5ad")


def test_path_may_be_a_string(path):
    assert stgraph.read(str(path)).n_obs == ad.read_h5ad(path).n_obs


def test_foreign_content_in_our_place_is_not_ours(tissue):
    tissue.uns["stgraph"] = "a note of somebody"
    assert canonicalize(tissue, um_per_unit=1.0).uns["stgraph"]["unit"] == "um"
