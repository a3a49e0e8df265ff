from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from stgraph.data.convert import NEAR, to_hetero_data
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.models.cell_graph import EDGE_TYPES, cell_graph


@pytest.fixture
def graph(tissue):
    return build_graph(tissue, builder=KNN(5))


def by_target(joined, kind):
    edges = joined.edges
    first_query = joined.num_cells + joined.num_virtual
    chosen = (edges.edge_type == EDGE_TYPES.index(kind)) & (edges.row < first_query)
    return {
        (int(r), int(c)): float(d)
        for r, c, d in zip(edges.row[chosen], edges.col[chosen], edges.distance[chosen], strict=True)
    }


def test_every_edge_is_there_once_with_its_distance(graph):
    joined = cell_graph(to_hetero_data(graph))
    n, v = len(graph), len(graph.virtual)
    near = graph.near.tocoo()
    expected = {(int(i), int(j)): d / graph.spacing for i, j, d in zip(near.row, near.col, near.data, strict=True)}
    assert by_target(joined, "cell-cell") == pytest.approx(expected, rel=1e-4)
    to_virtual = np.linalg.norm(graph.pos[:, None] - graph.virtual.pos, axis=2) / graph.spacing
    expected = {(i, n + j): to_virtual[i, j] for i in range(n) for j in range(v)}
    assert by_target(joined, "virtual-cell") == pytest.approx(expected, rel=1e-4)
    assert len(by_target(joined, "virtual-virtual")) == v * (v - 1)
    assert by_target(joined, "self") == {(i, i): 0.0 for i in range(n + v)}
    assert (torch.diff(joined.edges.row) >= 0).all()


def test_near_points_at_the_near_edges(graph):
    data = to_hetero_data(graph)
    joined = cell_graph(data)
    assert torch.equal(joined.edges.col[joined.near], data[NEAR].edge_index[0])
    assert torch.equal(joined.edges.row[joined.near], data[NEAR].edge_index[1])


def test_a_query_sees_what_its_cell_sees_but_not_the_cell(graph):
    joined = cell_graph(to_hetero_data(graph))
    edges, first = joined.edges, joined.num_cells + joined.num_virtual
    for cell in (0, 11, joined.num_cells - 1):
        seen = set(edges.col[edges.ptr[cell] : edges.ptr[cell + 1]].tolist())
        query = set(edges.col[edges.ptr[first + cell] : edges.ptr[first + cell + 1]].tolist())
        assert query == seen - {cell}
    assert edges.col.max() < first  # nobody sees a query


def test_slices_of_a_batch_do_not_meet(graph):
    virtual = replace(graph.virtual, pos=graph.virtual.pos * 3)
    large = replace(graph, pos=graph.pos * 3, near=graph.near * 3, spacing=graph.spacing * 3, virtual=virtual)
    batch = Batch.from_data_list([to_hetero_data(graph), to_hetero_data(large)])
    joined = cell_graph(batch)
    n = joined.num_cells
    owner = torch.cat([batch["cell"].batch, batch["virtual"].batch, batch["cell"].batch])
    assert torch.equal(owner[joined.edges.row], owner[joined.edges.col])
    first = joined.edges.distance[joined.edges.row < n // 2]
    second = joined.edges.distance[(joined.edges.row >= n // 2) & (joined.edges.row < n)]
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)  # each in spacings of its own slice


def test_alike_edges_stand_for_each_other(graph):
    joined = cell_graph(to_hetero_data(graph))
    assert torch.equal(joined.distance[joined.same_as], joined.edges.distance)
    assert torch.equal(joined.edge_type[joined.same_as], joined.edges.edge_type)
    assert len(joined.distance) < 0.6 * joined.edges.num_edges
