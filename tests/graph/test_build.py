import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import stgraph
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.build import build_graphs
from stgraph.graph.builders import KNN, Radius
from stgraph.graph.slots import write_slots
from stgraph.graph.spacing import median_spacing
from stgraph.preprocess.encoder import LogPCA


@given(arrays(float, st.tuples(st.integers(1, 25), st.just(2)), elements=st.integers(0, 6).map(float)))
def test_spacing_is_what_brute_force_finds(pos):
    places = np.array(sorted(set(map(tuple, pos))))
    if len(places) < 2:
        with pytest.raises(InputError, match="one point"):
            median_spacing(pos)
        return
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert median_spacing(pos) == pytest.approx(np.median(distance.min(axis=1)))


def test_a_tissue_becomes_a_graph(tissue):
    before = tissue.copy()
    graph = stgraph.build_graph(tissue)
    assert graph.slice_id == "synthetic_0"
    assert graph.unit == "um"
    assert graph.x.dtype == np.float32
    assert graph.x.flags.c_contiguous
    np.testing.assert_array_equal(graph.pos, tissue.obsm["spatial"])
    np.testing.assert_array_equal(graph.near.toarray(), KNN()(graph.pos).toarray())
    np.testing.assert_array_equal(graph.x, LogPCA().fit([tissue]).transform(tissue))
    assert graph.spacing == median_spacing(graph.pos)
    assert graph.virtual.num_cells.sum() == tissue.n_obs
    assert (tissue.X != before.X).nnz == 0
    assert set(tissue.obsp) == set(before.obsp)


def test_its_own_features(tissue):
    x = np.random.default_rng(0).normal(size=(tissue.n_obs, 3))
    tissue.obsm["X_own"] = x
    for graph in (stgraph.build_graph(tissue, features=x), stgraph.build_graph(tissue, use_rep="X_own")):
        np.testing.assert_array_equal(graph.x, x.astype(np.float32))
    assert stgraph.build_graph(tissue, features=x, virtual_cells=None).virtual is None


def test_features_that_do_not_fit(tissue):
    with pytest.raises(InputError, match=r"no obsm\['X_nix'\].*obsm has: spatial"):
        stgraph.build_graph(tissue, use_rep="X_nix")
    holes = np.ones((tissue.n_obs, 2))
    holes[[3, 7]] = np.nan
    for bad, message in (
        (np.ones((3, 2)), r"of shape \(320, C\), not \(3, 2\)"),
        (np.ones(tissue.n_obs), r"of shape \(320, C\), not \(320,\)"),
        (holes, "must be finite; those of 2 of 320 cells are not"),
        (np.full((tissue.n_obs, 2), "a"), "must be numbers, not of type"),
        (sp.csr_matrix(np.ones((tissue.n_obs, 2))), r"must be dense.*toarray"),
    ):
        with pytest.raises(InputError, match=message):
            stgraph.build_graph(tissue, features=bad)
    tissue.obsm["X_own"] = np.ones((tissue.n_obs, 2))
    with pytest.raises(InputError, match=r"given twice, as an array and as obsm\['X_own'\]"):
        stgraph.build_graph(tissue, features=np.ones((tissue.n_obs, 2)), use_rep="X_own")


def test_features_may_be_a_data_frame(tissue):
    x = np.random.default_rng(0).normal(size=(tissue.n_obs, 3)).astype(np.float32)
    tissue.obsm["X_frame"] = pd.DataFrame(x, index=tissue.obs_names)
    for options in ({"features": pd.DataFrame(x)}, {"use_rep": "X_frame"}):
        np.testing.assert_array_equal(stgraph.build_graph(tissue, virtual_cells=None, **options).x, x)


@pytest.mark.parametrize("use_rep", [None, "spatial"])
def test_who_names_the_column_is_not_told_to(slices, use_rep):
    # All warnings are errors here.
    both = ad.concat(slices)
    both.uns = dict(slices[0].uns)
    both.obs["sample"] = both.obs.pop("slice_id").astype(str)
    graphs = build_graphs(both, slice_key="sample", use_rep=use_rep, virtual_cells=None)
    assert {name: len(graph) for name, graph in graphs.items()} == {"synthetic_0": 320, "synthetic_1": 320}


def test_positions_as_features_stay_apart_from_positions(tissue):
    tissue.uns["stgraph"] = {}
    tissue.uns["spatial"] = {"library": {"scalefactors": {"microns_per_pixel": 0.5}}}
    tissue.obsm["spatial"] *= 2
    (graph,) = build_graphs(tissue, use_rep="spatial", virtual_cells=None).values()
    np.testing.assert_array_equal(graph.x, tissue.obsm["spatial"].astype(np.float32))
    np.testing.assert_array_equal(graph.pos, tissue.obsm["spatial"] / 2)


def test_coordinates_whose_distances_vanish(tissue):
    tissue.obsm["spatial"] *= 1e-180
    with pytest.raises(InputError, match=r"synthetic_0: The coordinates differ by so little .* in another unit"):
        stgraph.build_graph(tissue, virtual_cells=None)


def test_a_slice_never_canonicalised_is_checked(tissue):
    raw = ad.AnnData(tissue.X.astype(np.float32), obsm={"spatial": tissue.obsm["spatial"]})
    with pytest.warns(StgraphWarning, match="unit of the coordinates is unknown"):
        graph = stgraph.build_graph(raw)
    assert graph.unit == "unknown"
    assert set(raw.obs) == set()
    raw.X.data[0] = -1
    with pytest.raises(InputError, match="negative"):
        stgraph.build_graph(raw)


def test_microns_are_needed_to_count_in_them(tissue):
    tissue.uns["stgraph"] = {"unit": "unknown", "um_per_unit": np.nan}
    with pytest.raises(InputError, match=r"synthetic_0: Radius counts in microns.*--um-per-unit"):
        stgraph.build_graph(tissue, builder=Radius(30.0))
    assert stgraph.build_graph(tissue, builder=KNN(5)).unit == "unknown"


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_an_implausible_unit_is_pointed_out(tissue, factor):
    tissue.obsm["spatial"] = tissue.obsm["spatial"] * factor
    with pytest.warns(StgraphWarning, match="outside 1 to 200.*is the unit right"):
        stgraph.build_graph(tissue)
    tissue.uns["stgraph"]["unit"] = "unknown"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stgraph.build_graph(tissue)  # nothing is known, so nothing is implausible


def test_too_few_cells_name_the_slice(tissue):
    with pytest.raises(InputError, match=r"synthetic_0: The slice has 10 cells, too few for "):
        stgraph.build_graph(tissue[:10].copy())


def test_several_slices_at_once(slices):
    both = ad.concat(slices)
    both.uns = slices[0].uns
    with pytest.raises(InputError, match=r"2 slices.*split_slices"):
        stgraph.build_graph(both)


def test_a_graph_survives_the_file(tissue, tmp_path):
    graph = stgraph.build_graph(tissue)
    write_slots(tissue, graph, builder=KNN())
    tissue.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    connectivities, distances = back.obsp["spatial_connectivities"], back.obsp["spatial_distances"]
    assert connectivities.nnz == distances.nnz == graph.near.nnz
    assert set(connectivities.data) == {1.0}
    np.testing.assert_array_equal(distances.data, graph.near.data)
    assert back.uns["spatial_neighbors"]["connectivities_key"] == "spatial_connectivities"
    assert back.uns["spatial_neighbors"]["params"]["n_neighbors"] == KNN().n_neighbors
    assert back.obs["stgraph_virtual_cell"].astype(int).tolist() == graph.virtual.membership.tolist()


def test_coincident_cells_stay_neighbours(tissue):
    tissue.obsm["spatial"][1] = tissue.obsm["spatial"][0]
    graph = stgraph.build_graph(tissue, builder=KNN(1, symmetric=False))
    write_slots(tissue, graph, builder=KNN(1, symmetric=False))
    assert tissue.obsp["spatial_connectivities"][0, 1] == 1
    assert tissue.obsp["spatial_distances"].nnz == graph.near.nnz


def test_without_virtual_cells_none_are_written(tissue):
    write_slots(tissue, stgraph.build_graph(tissue, virtual_cells=None), builder=KNN())
    assert "stgraph_virtual_cell" not in tissue.obs


def test_a_graph_without_edges_is_refused(tissue):
    with pytest.raises(InputError, match=r"no cell has a neighbour, while its cells are typically .* microns apart"):
        stgraph.build_graph(tissue, builder=Radius(0.01))


def test_many_isolated_cells_are_said(tissue):
    with pytest.warns(StgraphWarning, match="cells have no neighbour"):
        stgraph.build_graph(tissue, builder=Radius(7.5), virtual_cells=None)


def test_a_few_isolated_cells_are_not(tissue):
    for isolated in (16, 17):  # of 320: a twentieth, and more than that
        tissue.obsm["spatial"][:isolated] = -1000.0 * np.arange(1, isolated + 1)[:, None]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stgraph.build_graph(tissue, builder=Radius(60.0), virtual_cells=None)
        said = [str(one.message) for one in caught if "have no neighbour" in str(one.message)]
        assert len(said) == (isolated == 17)
        assert all("17 of 320 cells" in message for message in said)
