import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch_geometric.data import Batch, HeteroData

from stgraph.data.convert import to_hetero_data
from stgraph.data.edge_types import NEAR
from stgraph.data.parts import PartDataset
from stgraph.data.rewiring import rewire_
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN, Radius
from stgraph.graph.delaunay import Delaunay
from stgraph.graph.grid import HexGrid
from stgraph.io.read import read
from stgraph.io.slices import split_slices
from stgraph.partition.halo import part_with_halo
from stgraph.partition.metis import Metis
from stgraph.partition.subgraph import induced


def cells(pos, unit="um"):
    """Cells without edges."""
    data = HeteroData()
    data.slice_id, data.unit = "slice", unit
    data["cell"].pos = torch.as_tensor(pos, dtype=torch.float32)
    data["cell"].num_nodes = len(pos)
    data[NEAR].edge_index = torch.zeros(2, 0, dtype=torch.int64)
    data[NEAR].edge_attr = torch.zeros(0, 1)
    return data


def edges(data):
    return set(map(tuple, data[NEAR].edge_index.T.tolist()))


def nearest(pos, k):
    """All pairs of which one is among the k nearest of the other, by brute force."""
    gap = cdist(pos, pos)
    np.fill_diagonal(gap, np.inf)
    close = gap <= np.sort(gap, axis=1)[:, k - 1 : k] * (1 + 1e-9)
    return {(int(i), int(j)) for i, j in np.argwhere(close | close.T)}


@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(4, 40), min_size=1, max_size=4),
    k=st.integers(1, 3),
)
def test_nearest_neighbours_of_each_graph_of_a_batch(seed, sizes, k):
    rng = np.random.default_rng(seed)
    parts = [cells(rng.normal(size=(n, 2)) * 100) for n in sizes]
    batch = Batch.from_data_list(parts)
    rewire_(batch, KNN(k))
    expected, begin = set(), 0
    for part in parts:
        pos = part["cell"].pos.double().numpy()
        expected |= {(i + begin, j + begin) for i, j in nearest(pos, k)}
        begin += len(pos)
    assert edges(batch) == expected
    source, target = batch[NEAR].edge_index
    assert torch.equal(torch.stack([target, source]), torch.stack([target, source])[:, np.lexsort([source, target])])
    gap = (batch["cell"].pos[source] - batch["cell"].pos[target]).norm(dim=1)
    torch.testing.assert_close(batch[NEAR].edge_attr[:, 0], gap)


def test_radius():
    pos = np.random.default_rng(0).random((200, 2)) * 100
    data = cells(pos)
    rewire_(data, Radius(12.0))
    gap = cdist(data["cell"].pos, data["cell"].pos)
    assert edges(data) == {(int(i), int(j)) for i, j in np.argwhere((gap <= 12) & ~np.eye(200, dtype=bool))}


@pytest.mark.parametrize("builder", [KNN(6), KNN(6, symmetric=False), Radius(30.0), Delaunay()])
def test_a_whole_slice_gets_the_edges_it_had(tissue, builder):
    data = to_hetero_data(build_graph(tissue, builder=builder))
    again = copy.copy(data)
    rewire_(again, builder)
    assert torch.equal(again[NEAR].edge_index, data[NEAR].edge_index)
    torch.testing.assert_close(again[NEAR].edge_attr, data[NEAR].edge_attr, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("builder", "most"), [(KNN(6), 0.05), (Radius(20.0), 0.0)])
def test_owned_cells_of_a_part_keep_their_neighbours(tissue, builder, most):
    """And gain few: those whom cells of the halo, having lost theirs, take instead."""
    graph = build_graph(tissue, builder=builder)
    parts = PartDataset([graph], Metis(part_size=110), num_hops=1)
    extra = total = 0
    for data in parts:
        owned = data["cell"].owned
        had = {edge for edge in edges(data) if owned[edge[1]]}
        rewire_(data, builder)
        has = {edge for edge in edges(data) if owned[edge[1]]}
        assert had <= has
        extra, total = extra + len(has - had), total + len(had)
    assert extra <= most * total


def test_what_was_there_before_does_not_show(tissue):
    """The same positions give the same edges, whatever edges there were; and tensors given are not written to."""
    graph = build_graph(tissue, builder=KNN(6))
    data = PartDataset([graph], Metis(part_size=110))[0]
    bare = copy.copy(data)
    bare[NEAR].edge_index, bare[NEAR].edge_attr = data[NEAR].edge_index[:, :3], data[NEAR].edge_attr[:3] + 5
    before = data[NEAR].edge_index.clone()
    again = copy.copy(data)
    for each in (again, bare):
        rewire_(each, KNN(4))
    assert torch.equal(again[NEAR].edge_index, bare[NEAR].edge_index)
    assert torch.equal(again[NEAR].edge_attr, bare[NEAR].edge_attr)
    assert torch.equal(data[NEAR].edge_index, before)


def test_coincident_cells_are_neighbours():
    data = cells([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]])
    rewire_(data, KNN(1))
    assert {(0, 1), (1, 0)} <= edges(data)
    assert data[NEAR].edge_attr.min() == 0


@pytest.mark.parametrize("n", [0, 1])
def test_no_cells_no_edges(n):
    data = cells(np.zeros((n, 2)))
    rewire_(data, KNN(3))
    assert data[NEAR].edge_index.shape == (2, 0)
    assert data[NEAR].edge_attr.shape == (0, 1)


def test_too_few_cells_are_all_neighbours():
    parts = [cells(np.random.default_rng(0).random((n, 2))) for n in (3, 8)]
    batch = Batch.from_data_list(parts)
    with pytest.warns(StgraphWarning, match="A part of 3 cells is too small for KNN"):
        rewire_(batch, KNN(4))
    small = {edge for edge in edges(batch) if edge[0] < 3}
    assert small == {(i, j) for i in range(3) for j in range(3) if i != j}
    rewire_(parts[1], KNN(4))
    assert edges(batch) - small == {(i + 3, j + 3) for i, j in edges(parts[1])}


def test_refusals():
    pos = np.random.default_rng(0).random((200, 2))
    with pytest.raises(InputError, match="counts in microns, but the unit"):
        rewire_(cells(pos, unit="unknown"), Radius(1.0))
    with pytest.raises(InputError, match="slice: the graph cannot be rebuilt from moved cells: "):
        rewire_(cells(pos), HexGrid())
    data = cells(pos)
    data[NEAR].contact = torch.zeros(0)
    with pytest.raises(InputError, match="have contact"):
        rewire_(data, KNN(3))


@pytest.mark.real
def test_real_parts(data_dir):
    path = data_dir / "merfish_hypothalamus" / "merfish_hypothalamus_3slices.h5ad"
    adata = read(path, um_per_unit=1.0, slice_key="sample")
    adata = next(iter(split_slices([adata]).values()))
    graph = build_graph(adata, virtual_cells=None, features=np.zeros((adata.n_obs, 1)))
    chosen = np.argsort(((graph.pos - np.median(graph.pos, axis=0)) ** 2).sum(axis=1))[:1000]
    part = part_with_halo(graph, np.sort(chosen), num_hops=1)
    data = cells(graph.pos[part.cells] - graph.centre)
    rewire_(data, KNN())
    true = induced(graph.near, part.cells).tocoo()
    owned = np.asarray(part.owned)
    had = {(int(j), int(i)) for i, j in zip(true.row, true.col, strict=True) if owned[i]}
    has = {edge for edge in edges(data) if owned[edge[1]]}
    assert had <= has
    assert len(has) < 1.04 * len(had)
