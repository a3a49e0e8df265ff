import numpy as np
import torch
from torch_geometric.data import Batch
from torch_geometric.nn import GATv2Conv, HeteroConv

from stgraph.data.convert import HAS_MEMBER, MEMBER_OF, NEAR, TO_CELL, TO_VIRTUAL, VIRTUAL_NEAR, to_hetero_data
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN


def test_nodes_and_edges_as_documented(tissue):
    graph = build_graph(tissue, builder=KNN(6))
    data = to_hetero_data(graph)
    n, v = len(graph), len(graph.virtual)
    assert data.validate()
    assert data["cell"].x.shape == graph.x.shape
    assert data["virtual"].num_cells.tolist() == graph.virtual.num_cells.tolist()
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


def test_near_edges_are_the_rows_of_the_slice_graph(tissue):
    graph = build_graph(tissue, builder=KNN(6, symmetric=False))
    source, target = to_hetero_data(graph)[NEAR].edge_index.numpy()
    for cell in (0, 50):
        np.testing.assert_array_equal(source[target == cell], graph.near[cell].indices)


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


def test_stock_convolutions_learn_on_it(slices):
    batch = Batch.from_data_list([to_hetero_data(build_graph(s)) for s in slices])
    torch.manual_seed(0)
    conv = HeteroConv(
        {
            edge_type: GATv2Conv((-1, -1), 4, edge_dim=1, add_self_loops=False)
            for edge_type in (NEAR, TO_CELL, TO_VIRTUAL, VIRTUAL_NEAR)
        }
    )
    target = batch["cell"].x[:, :4]
    conv(batch.x_dict, batch.edge_index_dict, batch.edge_attr_dict)
    optimizer = torch.optim.Adam(conv.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        loss = (conv(batch.x_dict, batch.edge_index_dict, batch.edge_attr_dict)["cell"] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]
