from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from stgraph.data.convert import (
    HAS_MEMBER,
    MEMBER_OF,
    NEAR,
    TO_CELL,
    TO_VIRTUAL,
    VIRTUAL_NEAR,
    from_hetero_data,
    to_hetero_data,
)
from stgraph.data.parts import part_data
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.graph.edges import edges_to_csr
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.slots import write_slots
from stgraph.graph.virtual_cells import aggregate
from stgraph.partition.halo import part_with_halo


def test_nodes_and_edges_as_documented(tissue):
    graph = build_graph(tissue, builder=KNN(6))
    data = to_hetero_data(graph)
    n, v = len(graph), len(graph.virtual)
    assert data.validate()
    assert data["cell"].x.shape == graph.x.shape
    assert data["cell"].owned.all()
    assert data["cell"].index.tolist() == list(range(n))
    assert data["virtual"].num_cells.tolist() == graph.virtual.num_cells.tolist()
    assert (data.slice_id, data.unit) == (graph.slice_id, "um")
    assert (data.origin.shape, data.origin.dtype) == ((1, 2), torch.float64)
    np.testing.assert_allclose(data["cell"].pos.numpy() + data.origin.numpy(), graph.pos, atol=1e-3)
    assert data["cell"].pos.mean(dim=0).abs().max() < 0.01
    assert (data.spacing.shape, data.spacing.dtype) == ((1,), torch.float32)
    sizes = {edge_type: data[edge_type].num_edges for edge_type in data.edge_types}
    assert sizes == {
        NEAR: graph.near.nnz,
        MEMBER_OF: n,
        HAS_MEMBER: n,
        TO_CELL: n * v,
        TO_VIRTUAL: n * v,
        VIRTUAL_NEAR: v * (v - 1),
    }
    for edge_type in data.edge_types:
        source, target = data[edge_type].edge_index
        gap = (data[edge_type[0]].pos[source] - data[edge_type[2]].pos[target]).norm(dim=1, keepdim=True)
        torch.testing.assert_close(data[edge_type].edge_attr, gap, rtol=1e-4, atol=1e-3)
        assert data[edge_type].edge_attr.dtype == torch.float32
        assert len(torch.unique(data[edge_type].edge_index, dim=1).T) == data[edge_type].num_edges
    assert torch.equal(data[MEMBER_OF].edge_index[1], torch.from_numpy(graph.virtual.membership))


def test_near_edges_are_the_rows_of_the_slice_graph(tissue):
    graph = build_graph(tissue, builder=KNN(6, symmetric=False))
    source, target = to_hetero_data(graph)[NEAR].edge_index.numpy()
    for cell in (0, 50):
        np.testing.assert_array_equal(source[target == cell], graph.near[cell].indices)


def test_levels_of_virtual_cells(layered):
    data = to_hetero_data(layered)
    level, below = layered.virtual, "cell"
    for name in ("virtual", "virtual2", "virtual3"):
        assert torch.equal(data[name].x, torch.from_numpy(level.x))
        assert torch.equal(data[below, "member_of", name].edge_index[1], torch.from_numpy(level.membership))
        forth, back = data[below, "member_of", name], data[name, "has_member", below]
        assert torch.equal(forth.edge_index.flip(0), back.edge_index)
        assert torch.equal(forth.edge_attr, back.edge_attr)
        level, below = level.parent, name
    assert data.node_types == ["cell", "virtual", "virtual2", "virtual3"]


def test_positions_far_from_the_origin_keep_their_distances(tissue):
    tissue.obsm["spatial"] = tissue.obsm["spatial"] + 1e8
    graph = build_graph(tissue, virtual_cells=None)
    data = to_hetero_data(graph)
    source, target = data[NEAR].edge_index
    gap = (data["cell"].pos[source] - data["cell"].pos[target]).norm(dim=1)
    torch.testing.assert_close(gap, data[NEAR].edge_attr[:, 0], rtol=1e-3, atol=1e-3)


def test_without_virtual_cells(tissue):
    data = to_hetero_data(build_graph(tissue, virtual_cells=None))
    assert data.validate()
    assert data["virtual"].x.shape == (0, data["cell"].x.shape[1])
    assert data[TO_CELL].edge_index.shape == (2, 0)
    assert data[TO_CELL].edge_attr.shape == (0, 1)
    assert from_hetero_data(data).virtual is None


@pytest.mark.parametrize("informs", [True, False])
@pytest.mark.parametrize("move", [0.0, 1e8, [-3.7e5, 12.3]])
def test_there_and_back_and_there_is_the_same_to_the_bit(layered, move, informs, assert_same):
    graph = replace(layered, pos=layered.pos + move, virtual=_moved(layered.virtual, move))
    data = to_hetero_data(graph, informs=informs)
    back = from_hetero_data(data)
    assert_same(data, to_hetero_data(back, informs=informs))
    _assert_close(graph, back)


def _moved(level, move):
    return level and replace(level, pos=level.pos + move, parent=_moved(level.parent, move))


def _assert_close(graph, back):
    """Exact up to float32."""
    size = np.abs(graph.pos - graph.pos.mean(axis=0)).max()
    assert (back.slice_id, back.unit) == (graph.slice_id, graph.unit)
    assert back.spacing == np.float32(graph.spacing)
    np.testing.assert_array_equal(back.x, graph.x)
    np.testing.assert_allclose(back.pos, graph.pos, rtol=1e-15, atol=1e-7 * size)
    np.testing.assert_array_equal(back.near.indptr, graph.near.indptr)
    np.testing.assert_array_equal(back.near.indices, graph.near.indices)
    np.testing.assert_array_equal(back.near.data, graph.near.data.astype(np.float32))
    one, other = graph.virtual, back.virtual
    while one is not None:
        for name in ("membership", "x", "num_cells"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_allclose(one.pos, other.pos, rtol=1e-15, atol=1e-7 * size)
        one, other = one.parent, other.parent
    assert other is None


@settings(deadline=None, max_examples=60)
@given(draw=st.data())
def test_any_graph_there_and_back(assert_same, draw):
    n = draw.draw(st.integers(1, 12))
    seed = draw.draw(st.integers(0, 2**32 - 1))
    scale, shift = draw.draw(st.sampled_from([1e-3, 1.0, 1e6])), draw.draw(st.sampled_from([0.0, 1.0, -7e3, 1e9]))
    rng = np.random.default_rng(seed)
    pos = rng.normal(size=(n, 2)) * scale + shift
    pos[rng.random(n) < 0.3] = pos[0]  # coincident
    pattern = rng.random((n, n)) < draw.draw(st.sampled_from([0.0, 0.3, 1.0]))
    near = edges_to_csr(pos, *np.nonzero(pattern), symmetric=bool(seed % 2))
    x = rng.normal(size=(n, draw.draw(st.integers(0, 3)))).astype(np.float32)
    virtual = aggregate(np.unique(rng.integers(0, 3, n), return_inverse=True)[1], x, pos) if seed % 3 else None
    graph = SliceGraph("a", x, pos, near, virtual, scale, draw.draw(st.sampled_from(["um", "unknown"])))
    converted = to_hetero_data(graph)
    assert converted.validate()
    back = from_hetero_data(converted)
    assert_same(converted, to_hetero_data(back))
    np.testing.assert_array_equal(back.near.indptr, near.indptr)
    np.testing.assert_array_equal(back.near.indices, near.indices)


def test_the_order_of_edges_does_not_matter_on_the_way_back(layered):
    data = to_hetero_data(layered)
    for edge_type in (NEAR, MEMBER_OF):
        order = torch.randperm(data[edge_type].num_edges, generator=torch.Generator().manual_seed(0))
        data[edge_type].edge_index = data[edge_type].edge_index[:, order]
        data[edge_type].edge_attr = data[edge_type].edge_attr[order]
    _assert_close(layered, from_hetero_data(data))


def test_a_part_becomes_a_graph_of_its_cells(layered):
    part = part_with_halo(layered, np.arange(30), 1)
    back = from_hetero_data(part_data(layered, part))
    assert (back.near != layered.near[part.cells][:, part.cells].astype(np.float32)).nnz == 0
    np.testing.assert_array_equal(back.virtual.membership, layered.virtual.membership[part.cells])
    np.testing.assert_array_equal(back.virtual.num_cells, layered.virtual.num_cells)


def test_from_anndata_with_a_graph_in_its_slots(tissue, assert_same):
    graph = build_graph(tissue, builder=KNN(3))
    write_slots(tissue, graph, builder=KNN(3))
    taken, made = to_hetero_data(tissue), to_hetero_data(build_graph(tissue, builder=KNN(3)))
    assert torch.equal(taken[NEAR].edge_index, made[NEAR].edge_index)
    assert taken["virtual"].num_nodes == len(graph.virtual)
    for key in ("spatial_connectivities", "spatial_distances"):
        del tissue.obsp[key]
    del tissue.uns["spatial_neighbors"]
    assert_same(to_hetero_data(tissue, informs=False), to_hetero_data(build_graph(tissue), informs=False))
    tissue.obsm["own"] = np.random.default_rng(0).normal(size=(tissue.n_obs, 4))
    assert_same(to_hetero_data(tissue, use_rep="own"), to_hetero_data(build_graph(tissue, use_rep="own")))


def test_use_rep_is_for_anndata(layered):
    with pytest.raises(InputError, match="use_rep names features of an AnnData"):
        to_hetero_data(layered, use_rep="X_pca")


def _twice(data):
    data[NEAR].edge_index = torch.cat([data[NEAR].edge_index, data[NEAR].edge_index[:, :1]], dim=1)
    data[NEAR].edge_attr = torch.cat([data[NEAR].edge_attr, data[NEAR].edge_attr[:1]])


def _set(store, key, value):
    def change(data):
        data[store][key] = value(data[store][key])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: delattr(data, "origin"), "no 'origin' in this HeteroData"),
        (lambda data: data["cell"].__delitem__("pos"), r"no 'cell\.pos' in this HeteroData"),
        (_set(MEMBER_OF, "edge_index", lambda e: e[:, 1:]), "must hold each 'cell' node once"),
        (_twice, "holds an edge twice"),
        (_set(NEAR, "edge_attr", lambda e: e[:, 0]), r"edge_attr has shape \(\d+,\), not \(E, 1\)"),
    ],
)
def test_what_was_not_made_here_is_refused(layered, change, message):
    data = to_hetero_data(layered)
    change(data)
    with pytest.raises(InputError, match=message):
        from_hetero_data(data)


def test_a_batch_is_refused(layered):
    with pytest.raises(InputError, match=r"batch\.to_data_list"):
        from_hetero_data(Batch.from_data_list([to_hetero_data(layered)]))
