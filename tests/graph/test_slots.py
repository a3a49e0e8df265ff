from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import stgraph
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.builders import KNN, Radius
from stgraph.graph.hierarchy import Hierarchical
from stgraph.graph.slots import has_slots, read_edges, read_slots, write_edges, write_slots
from stgraph.graph.virtual_cells import JointLeiden, aggregate


def squidpy_like(adata, pattern, *, key="spatial", distances=None):
    """The slots as squidpy 1.6 leaves them: booleans or floats, and rings instead of lengths for grids."""
    adata.obsp[f"{key}_connectivities"] = sp.csr_matrix(pattern)
    adata.obsp[f"{key}_distances"] = sp.csr_matrix(pattern.astype(float) if distances is None else distances)
    adata.uns[f"{key}_neighbors"] = {
        "connectivities_key": f"{key}_connectivities",
        "distances_key": f"{key}_distances",
        "params": {"n_neighbors": 6, "coord_type": "grid", "radius": None, "transform": None},
    }


def test_written_and_read_it_is_the_same(tissue, tmp_path):
    graph = stgraph.build_graph(tissue, builder=KNN(5))
    write_slots(tissue, graph, builder=KNN(5))
    tissue.write_h5ad(tmp_path / "a.h5ad")
    back = read_slots(ad.read_h5ad(tmp_path / "a.h5ad"), features=graph.x)
    assert (back.slice_id, back.unit, back.spacing) == (graph.slice_id, graph.unit, graph.spacing)
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(back.near, name), getattr(graph.near, name))
    for name in ("membership", "x", "pos", "num_cells"):
        np.testing.assert_allclose(getattr(back.virtual, name), getattr(graph.virtual, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [bool, np.float32, np.float64, np.int32])
def test_a_graph_of_squidpy_is_measured_anew(tissue, dtype):
    near = KNN(4, symmetric=False)(tissue.obsm["spatial"])
    squidpy_like(tissue, near.toarray() > 0, distances=(near > 0).astype(float))
    tissue.obsp["spatial_connectivities"] = tissue.obsp["spatial_connectivities"].astype(dtype)
    graph = read_slots(tissue)
    np.testing.assert_allclose(graph.near.toarray(), near.toarray())
    assert graph.virtual is None
    assert read_slots(tissue, virtual_cells=JointLeiden()).virtual is not None


def test_another_key(tissue):
    squidpy_like(tissue, np.eye(tissue.n_obs, k=1), key="mine")
    assert has_slots(tissue, key="mine")
    assert not has_slots(tissue)
    assert read_slots(tissue, key="mine").near.nnz == tissue.n_obs - 1
    with pytest.raises(InputError, match=r"no graph in obsp\['spatial_connectivities'\].*mine_connectivities"):
        read_slots(tissue)


def test_the_record_says_where_the_graph_is(tissue):
    tissue.obsp["elsewhere"] = sp.csr_matrix(np.eye(tissue.n_obs, k=1))
    tissue.uns["spatial_neighbors"] = {"connectivities_key": "elsewhere"}
    assert read_edges(tissue, tissue.obsm["spatial"]).nnz == tissue.n_obs - 1


def test_coincident_cells_are_joined_if_the_pattern_says_so(tissue):
    tissue.obsm["spatial"][1] = tissue.obsm["spatial"][0]
    squidpy_like(tissue, np.eye(tissue.n_obs, k=1))
    near = read_edges(tissue, tissue.obsm["spatial"])
    assert near.nnz == tissue.n_obs - 1
    assert near.data[0] == 0


def test_stored_zeros_connect_nothing(tissue):
    squidpy_like(tissue, np.eye(tissue.n_obs, k=1))
    tissue.obsp["spatial_connectivities"].data[3] = 0
    assert read_edges(tissue, tissue.obsm["spatial"]).nnz == tissue.n_obs - 2


def test_self_loops_are_left_out_aloud(tissue):
    squidpy_like(tissue, np.eye(tissue.n_obs, k=1) + np.eye(tissue.n_obs))
    with pytest.warns(StgraphWarning, match=f"{tissue.n_obs} self-loops"):
        near = read_edges(tissue, tissue.obsm["spatial"])
    assert near.nnz == tissue.n_obs - 1


def test_what_is_no_graph(tissue):
    squidpy_like(tissue, np.eye(tissue.n_obs, k=1))
    tissue.obsp["spatial_connectivities"].data[0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        read_slots(tissue)
    tissue.obsp["spatial_connectivities"] = sp.csr_matrix((tissue.n_obs, tissue.n_obs))
    with pytest.raises(InputError, match="no cell has a neighbour"):
        read_slots(tissue)


def test_several_slices_are_refused(slices):
    both = ad.concat(slices)
    both.uns = slices[0].uns
    squidpy_like(both, np.eye(both.n_obs, k=1))
    with pytest.raises(InputError, match="2 slices"):
        read_slots(both)


def test_virtual_cells_must_be_complete(tissue):
    graph = stgraph.build_graph(tissue)
    write_slots(tissue, graph)
    tissue.obs["stgraph_virtual_cell"] = tissue.obs["stgraph_virtual_cell"].astype(object)
    tissue.obs.loc[tissue.obs_names[0], "stgraph_virtual_cell"] = None
    with pytest.raises(InputError, match="some cells have no virtual cell"):
        read_slots(tissue)


def test_all_levels_come_back(tissue):
    graph = stgraph.build_graph(tissue, virtual_cells=Hierarchical(JointLeiden(resolution=6.0), max_coarse=(4, 2)))
    assert len(graph.virtual) > 10  # numbers of two digits
    write_slots(tissue, graph)
    level, back = graph.virtual, read_slots(tissue, features=graph.x).virtual
    for _ in range(3):
        np.testing.assert_array_equal(back.membership, level.membership)
        np.testing.assert_array_equal(back.num_cells, level.num_cells)
        np.testing.assert_allclose(back.pos, level.pos)
        np.testing.assert_allclose(back.x, level.x, rtol=1e-4, atol=1e-5)
        level, back = level.parent, back.parent
    assert level is back is None
    write_slots(tissue, stgraph.build_graph(tissue))  # one level only
    assert read_slots(tissue).virtual.parent is None
    write_slots(tissue, stgraph.build_graph(tissue, virtual_cells=None))
    assert read_slots(tissue).virtual is None


def test_virtual_cells_of_one_size_keep_their_numbers(tissue):
    graph = stgraph.build_graph(tissue, virtual_cells=None)
    graph = replace(graph, virtual=aggregate(np.arange(len(graph)) % 20, graph.x, graph.pos))
    write_slots(tissue, graph)
    np.testing.assert_array_equal(read_slots(tissue).virtual.membership, graph.virtual.membership)


def test_levels_must_be_nested(tissue):
    write_slots(tissue, stgraph.build_graph(tissue))
    tissue.obs["stgraph_virtual_cell2"] = ["a", "b"] * (tissue.n_obs // 2)
    with pytest.raises(InputError, match=r"obs\['stgraph_virtual_cell2'\] puts cells of one finer virtual cell into"):
        read_slots(tissue)


def test_the_slots_are_copies_of_the_graph(tissue):
    graph = stgraph.build_graph(tissue, virtual_cells=None)
    before = graph.near.copy()
    write_slots(tissue, graph)
    for slot in ("spatial_distances", "spatial_connectivities"):
        tissue.obsp[slot].data[:] = 0
        tissue.obsp[slot].eliminate_zeros()
    assert (graph.near != before).nnz == 0


def test_own_prefix_is_written(tissue):
    near = Radius(30.0)(tissue.obsm["spatial"])
    write_edges(tissue, near, {"radius": 30.0}, key="wide")
    assert tissue.uns["wide_neighbors"]["connectivities_key"] == "wide_connectivities"
    np.testing.assert_array_equal(read_edges(tissue, tissue.obsm["spatial"], key="wide").data, near.data)


@pytest.mark.parametrize(
    "options",
    [
        {"coord_type": "generic", "n_neighs": 6},
        {"coord_type": "generic", "delaunay": True},
        {"coord_type": "generic", "radius": 30.0},
        {"coord_type": "grid", "n_rings": 1},
    ],
)
@pytest.mark.filterwarnings("ignore")  # its own warnings are not ours to mend
def test_squidpy_itself(tissue, options):
    sq = pytest.importorskip("squidpy", reason="squidpy is no dependency; install it to check against it")
    sq.gr.spatial_neighbors(tissue, **options)
    graph = read_slots(tissue)
    assert graph.near.nnz == (tissue.obsp["spatial_connectivities"] != 0).nnz
    if options["coord_type"] == "generic":
        np.testing.assert_allclose(graph.near.toarray(), tissue.obsp["spatial_distances"].toarray(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_squidpy_runs_on_ours(tissue):
    sq = pytest.importorskip("squidpy", reason="squidpy is no dependency; install it to check against it")
    stgraph.spatial_neighbors(tissue, builder=KNN(6))
    tissue.obs["domain"] = tissue.obs["domain"].astype("category")
    sq.gr.nhood_enrichment(tissue, cluster_key="domain", n_perms=20, seed=0, show_progress_bar=False)
    sq.gr.centrality_scores(tissue, cluster_key="domain", show_progress_bar=False)
    sq.gr.interaction_matrix(tissue, cluster_key="domain")
    sq.gr.spatial_autocorr(tissue, mode="moran", genes=list(tissue.var_names[:5]), show_progress_bar=False)
    assert np.isfinite(tissue.uns["moranI"]["I"]).all()
    assert tissue.uns["domain_nhood_enrichment"]["zscore"].shape[0] == tissue.obs["domain"].nunique()
