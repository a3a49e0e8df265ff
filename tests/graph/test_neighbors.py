import anndata as ad
import numpy as np
import pytest

import stgraph
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.builders import KNN, Radius


@pytest.fixture
def two(slices):
    """Two sections in one frame, their cells interleaved."""
    both = ad.concat(slices)
    both.obs_names_make_unique()
    both = both[np.random.default_rng(0).permutation(both.n_obs)].copy()
    both.uns = dict(slices[0].uns)
    return both


def test_no_edge_crosses(two):
    stgraph.spatial_neighbors(two, builder=KNN(6))
    near = two.obsp["spatial_distances"].tocoo()
    ids = two.obs["slice_id"].astype(str).to_numpy()
    assert (ids[near.row] == ids[near.col]).all()
    for name in np.unique(ids):
        cells = np.flatnonzero(ids == name)
        alone = KNN(6)(two.obsm["spatial"][cells])
        np.testing.assert_allclose(two.obsp["spatial_distances"][cells][:, cells].toarray(), alone.toarray())
    assert set(two.obsp["spatial_connectivities"].data) == {1.0}
    assert two.uns["spatial_neighbors"]["params"]["n_neighbors"] == 6


def test_the_key_is_the_users(two):
    two.obs["mouse"] = np.where(np.arange(two.n_obs) % 3 == 0, "a", "b")
    stgraph.spatial_neighbors(two, slice_key="mouse")
    near = two.obsp["spatial_distances"].tocoo()
    mouse = two.obs["mouse"].to_numpy()
    assert (mouse[near.row] == mouse[near.col]).all()
    with pytest.raises(InputError, match=r"no column 'cage'.*mouse"):
        stgraph.spatial_neighbors(two, slice_key="cage")
    two.obs.loc[two.obs_names[0], "mouse"] = None
    with pytest.raises(InputError, match="1 cells have no value"):
        stgraph.spatial_neighbors(two, slice_key="mouse")


def test_only_positions_matter(tissue):
    bare = ad.AnnData(np.full((tissue.n_obs, 1), -0.5), obsm={"spatial": tissue.obsm["spatial"]})
    stgraph.spatial_neighbors(bare)
    assert bare.obsp["spatial_distances"].nnz == KNN()(tissue.obsm["spatial"]).nnz


def test_copy_leaves_the_original(tissue):
    out = stgraph.spatial_neighbors(tissue, copy=True)
    assert "spatial_connectivities" in out.obsp
    assert "spatial_connectivities" not in tissue.obsp


def test_microns_must_be_known_to_count_in_them(tissue):
    pos = tissue.obsm["spatial"]
    pixels = ad.AnnData(np.zeros((len(pos), 1)), obsm={"spatial": pos * 2})
    with pytest.raises(InputError, match="adata: Radius counts in microns"):
        stgraph.spatial_neighbors(pixels, builder=Radius(30.0))
    stgraph.spatial_neighbors(pixels, builder=Radius(30.0), um_per_unit=0.5)
    expected = Radius(30.0)(pos)
    # Lengths are in the unit of the coordinates that stand beside them.
    np.testing.assert_allclose(pixels.obsp["spatial_distances"].toarray(), 2 * expected.toarray())
    with pytest.raises(InputError, match="positive number"):
        stgraph.spatial_neighbors(pixels, um_per_unit=0)


def test_a_wrong_unit_is_pointed_out(tissue):
    far = ad.AnnData(np.zeros((tissue.n_obs, 1)), obsm={"spatial": tissue.obsm["spatial"]})
    with pytest.warns(StgraphWarning, match="mean distance to the nearest neighbour.*outside 1 to 200"):
        stgraph.spatial_neighbors(far, um_per_unit=1000.0)


def test_one_slice_too_small_is_named(two):
    two.obs["slice_id"] = ["lonely"] * 3 + ["rest"] * (two.n_obs - 3)
    with pytest.raises(InputError, match="lonely: The slice has 3 cells"):
        stgraph.spatial_neighbors(two)


def test_coincident_cells(tissue):
    tissue.obsm["spatial"][1] = tissue.obsm["spatial"][0]
    stgraph.spatial_neighbors(tissue, builder=KNN(3))
    assert tissue.obsp["spatial_connectivities"][0, 1] == 1
    assert tissue.obsp["spatial_distances"].nnz == tissue.obsp["spatial_connectivities"].nnz


def test_a_view_and_a_file_on_disk(tissue, tmp_path):
    expected = stgraph.spatial_neighbors(tissue[:150].copy(), copy=True).obsp["spatial_distances"]
    view = tissue[:150]
    out = stgraph.spatial_neighbors(view, copy=True)
    assert (out.obsp["spatial_distances"] != expected).nnz == 0
    assert view.is_view
    tissue[:150].copy().write_h5ad(tmp_path / "a.h5ad")
    for copy in (True, False):
        backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
        out = stgraph.spatial_neighbors(backed, copy=copy)
        assert ((out if copy else backed).obsp["spatial_distances"] != expected).nnz == 0
        assert ("spatial_distances" in backed.obsp) != copy
        backed.file.close()


def test_the_unit_is_found_as_for_a_graph(tissue):
    pixels = tissue.copy()
    pixels.uns["stgraph"] = "a note of somebody"
    pixels.uns["spatial"] = {"library": {"scalefactors": {"microns_per_pixel": 0.25}}}
    pixels.obsm["spatial"] *= 4
    before = pixels.obsm["spatial"].copy()
    stgraph.spatial_neighbors(pixels, builder=Radius(30.0))
    expected = Radius(30.0)(tissue.obsm["spatial"])
    np.testing.assert_allclose(pixels.obsp["spatial_distances"].toarray(), 4 * expected.toarray())
    np.testing.assert_array_equal(pixels.obsm["spatial"], before)
    assert pixels.uns["stgraph"] == "a note of somebody"
    assert pixels.uns["spatial_neighbors"]["params"]["unit"] == "unknown"


def test_microns_are_not_scaled_again(tissue):
    with pytest.raises(InputError, match="in microns already"):
        stgraph.spatial_neighbors(tissue, um_per_unit=0.5)


def test_what_looks_like_several_slices_is_said(two):
    two.obs["sample"] = two.obs.pop("slice_id").astype(str)
    with pytest.warns(StgraphWarning, match=r"obs\['sample'\] has 2 values.*slice_key="):
        stgraph.spatial_neighbors(two)
    stgraph.spatial_neighbors(two, slice_key="sample")  # and then no more


def test_categories_without_cells(two):
    two.obs["slice_id"] = two.obs["slice_id"].astype("category").cat.add_categories("gone")
    stgraph.spatial_neighbors(two, builder=KNN(3))
    assert two.obsp["spatial_distances"].nnz >= 3 * two.n_obs


@pytest.mark.parametrize("n", [0, 1])
def test_no_cell_and_one(tissue, n):
    with pytest.raises(InputError, match=f"adata: the number of its cells is {n}, and a graph needs neighbours"):
        stgraph.spatial_neighbors(tissue[:n].copy())


def test_the_slots_share_no_memory(tissue):
    tissue.obsm["spatial"][1] = tissue.obsm["spatial"][0]
    stgraph.spatial_neighbors(tissue)
    before = tissue.obsp["spatial_connectivities"].toarray()
    tissue.obsp["spatial_distances"].eliminate_zeros()  # in place
    np.testing.assert_array_equal(tissue.obsp["spatial_connectivities"].toarray(), before)
