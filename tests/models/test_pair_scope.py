from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from stgraph.data.box import SliceBox
from stgraph.data.convert import NEAR, to_hetero_data
from stgraph.data.parts import part_data
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.models.pair_scope import PAIR_TYPES, CompletePairs, EdgePairs
from stgraph.nn.se2_encoder import CELL, CLASS_TOKEN, VIRTUAL
from stgraph.partition.halo import part_with_halo


@pytest.fixture
def graph(tissue):
    return build_graph(tissue, builder=KNN(5))


@pytest.fixture
def small(graph):
    """A slice of 70 cells."""
    return part_data(graph, part_with_halo(graph, np.arange(70), 0))


def scaled(graph, factor):
    virtual = replace(graph.virtual, pos=graph.virtual.pos * factor)
    return replace(
        graph, pos=graph.pos * factor, near=graph.near * factor, spacing=graph.spacing * factor, virtual=virtual
    )


def listed(pairs):
    """Distance and kind of each edge by target and source."""
    edges = pairs.edges
    ends = zip(edges.row.tolist(), edges.col.tolist(), strict=True)
    found = dict(zip(ends, zip(edges.distance.tolist(), edges.edge_type.tolist(), strict=True), strict=True))
    assert len(found) == edges.num_edges
    return found


def kind(name):
    return PAIR_TYPES.index(name)


@pytest.mark.parametrize("informs", [True, False])
def test_edge_pairs_by_hand(graph, informs):
    pairs = EdgePairs()(to_hetero_data(graph, informs=informs))
    n, v = len(graph), len(graph.virtual)
    pos = np.concatenate([graph.pos, graph.virtual.pos]) / graph.spacing
    expected = {}
    near = graph.near.tocoo()
    for i, j in zip(near.row.tolist(), near.col.tolist(), strict=True):
        expected[i, j] = (np.linalg.norm(pos[i] - pos[j]), kind("cell-cell"))
    for i in range(n + v):
        for j in range(n, n + v):
            expected[i, j] = (np.linalg.norm(pos[i] - pos[j]), kind("virtual-cell" if i < n else "virtual-virtual"))
    for i in range(n + v):
        expected[i, i] = (0.0, kind("self"))
        expected[i, n + v] = (0.0, kind("class"))
    for j in range(n, n + v):
        expected[n + v, j] = (0.0, kind("class"))
    expected[n + v, n + v] = (0.0, kind("self"))
    found = listed(pairs)
    assert found.keys() == expected.keys()
    for ends, (gap, number) in expected.items():
        assert found[ends][1] == number
        assert found[ends][0] == pytest.approx(gap, rel=1e-4, abs=1e-4)
    assert pairs.node_type.tolist() == [CELL] * n + [VIRTUAL] * v + [CLASS_TOKEN]
    assert pairs.edges.blocks is None


def check_csr(edges):
    assert (edges.row.diff() >= 0).all()
    assert torch.equal(torch.bincount(edges.row, minlength=edges.num_nodes), edges.ptr.diff())
    assert edges.ptr[0] == 0
    assert edges.row.dtype == edges.col.dtype == edges.edge_type.dtype == torch.long
    assert edges.distance.dtype == torch.float32


@pytest.mark.parametrize("scope", [EdgePairs(), CompletePairs(), CompletePairs(neighbors=10)], ids=repr)
def test_near_points_at_the_near_edges(scope, graph):
    batch = Batch.from_data_list([to_hetero_data(graph), to_hetero_data(scaled(graph, 3.0))])
    shuffled = batch.clone()
    order = torch.randperm(batch[NEAR].num_edges, generator=torch.Generator().manual_seed(0))
    shuffled[NEAR].edge_index, shuffled[NEAR].edge_attr = batch[NEAR].edge_index[:, order], batch[NEAR].edge_attr[order]
    for data in (batch, shuffled):
        pairs = scope(data)
        check_csr(pairs.edges)
        source, target = data[NEAR].edge_index
        assert torch.equal(pairs.edges.col[pairs.near], pairs.cell[source])
        assert torch.equal(pairs.edges.row[pairs.near], pairs.cell[target])
        assert (pairs.node_type[pairs.cell] == CELL).all()
        assert (pairs.node_type[pairs.virtual] == VIRTUAL).all()
        if scope != CompletePairs(neighbors=10):
            length = data[NEAR].edge_attr[:, 0] / data.spacing[data["cell"].batch[target]]
            torch.testing.assert_close(pairs.edges.distance[pairs.near], length, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scope", [EdgePairs(), CompletePairs(), CompletePairs(neighbors=10)], ids=repr)
def test_a_batch_is_its_slices_side_by_side(scope, graph):
    bare = replace(scaled(graph, 5.0), virtual=None)
    graphs = [graph, bare, scaled(graph, 3.0)]
    slices = [
        part_data(each, part_with_halo(each, np.arange(n), 0)) for n, each in zip((50, 40, 30), graphs, strict=True)
    ]
    batch = Batch.from_data_list(slices)
    together = scope(batch)
    found = listed(together)
    first_cell = first_virtual = 0
    number = 0
    token = (together.node_type == CLASS_TOKEN).nonzero()[:, 0]
    for which, data in enumerate(slices):
        alone = scope(data)
        place = torch.full_like(alone.node_type, int(token[which]))
        cells, virtual = len(alone.cell), len(alone.virtual)
        place[alone.cell] = together.cell[first_cell : first_cell + cells]
        place[alone.virtual] = together.virtual[first_virtual : first_virtual + virtual]
        first_cell, first_virtual = first_cell + cells, first_virtual + virtual
        for (i, j), (gap, type_) in listed(alone).items():
            assert found[int(place[i]), int(place[j])] == (pytest.approx(gap, rel=1e-3, abs=1e-3), type_)
        number += alone.edges.num_edges
    assert number == together.edges.num_edges


def test_complete_pairs_by_hand(small):
    pairs = CompletePairs()(small)
    n, v = small["cell"].num_nodes, small["virtual"].num_nodes
    assert pairs.edges.blocks == (1 + v + n,)
    assert pairs.node_type.tolist() == [CLASS_TOKEN] + [VIRTUAL] * v + [CELL] * n
    pos = torch.cat([torch.zeros(1, 2), small["virtual"].pos, small["cell"].pos]).double() / small.spacing
    expected = torch.cdist(pos, pos, compute_mode="donot_use_mm_for_euclid_dist")
    expected[0], expected[:, 0] = 0, 0
    found = pairs.edges.distance.view(1 + v + n, -1)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-4)
    assert ((found == 0) == (expected == 0)).all()
    kinds = pairs.edges.edge_type.view(1 + v + n, -1)
    assert (kinds.diag() == kind("self")).all()
    assert (kinds[0, 1:] == kind("class")).all()
    assert (kinds[1:, 0] == kind("class")).all()
    assert kinds[1, 2] == kind("virtual-virtual")
    assert kinds[1, 1 + v] == kinds[1 + v, 1] == kind("virtual-cell")
    assert kinds[1 + v, 2 + v] == kind("cell-cell")


def released_distances(token, virtual, cells, neighbors):
    """The released code's distances of one part, in a loop, but for ties."""
    pos = np.concatenate([token[None], virtual, cells])
    n, first = len(pos), 1 + len(virtual)
    gap = np.linalg.norm(pos[:, None] - pos, axis=2)
    out = gap.copy()
    near = np.zeros((n, n), bool)
    for i in range(n):
        others = sorted(gap[i, j] for j in range(n) if j != i)
        last = others[min(neighbors, n - 1) - 2]
        near[i] = gap[i] <= last * (1 + 1e-5)
    near |= near.T
    for i in range(first, n):
        for j in range(first, n):
            if i != j and (not near[i, j] or gap[i, j] == 0):
                out[i, j] = 100.0
    out[0], out[:, 0] = 0, 0
    return out


@pytest.mark.parametrize("neighbors", [2, 12, 50, 500])
def test_truncation_is_that_of_the_released_code(graph, small, neighbors):
    small["cell"].pos[1] = small["cell"].pos[0]  # two cells at one place are far from each other there
    small = SliceBox([graph])(small)
    corners = np.stack([graph.pos.min(0), graph.pos.max(0)])
    unit = np.linalg.norm(corners[1] - corners[0]) / 100
    origin = small.origin.numpy()
    token = corners.mean(0) - origin[0]
    expected = released_distances(
        token / unit, small["virtual"].pos.numpy() / unit, small["cell"].pos.numpy().astype(float) / unit, neighbors
    )
    pairs = CompletePairs(neighbors=neighbors, unit="diagonal")(small)
    found = pairs.edges.distance.view(expected.shape).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_without_a_place_the_class_token_is_nobodys_neighbor(small):
    scope = CompletePairs(neighbors=8)
    v, far = small["virtual"].num_nodes, scope.far
    found = scope(small).edges.distance.view(1 + v + 70, -1)[1 + v :, 1 + v :]
    pos = torch.cat([small["virtual"].pos, small["cell"].pos]).double()
    gap = torch.cdist(pos, pos, compute_mode="donot_use_mm_for_euclid_dist")
    close = gap <= gap.sort(dim=1).values[:, 7:8] * (1 + 1e-5)
    close = (close | close.T)[v:, v:]
    assert torch.equal(found == far, ~close)


def test_neighbors_that_tie_are_all_near():
    side = torch.arange(5.0)
    pos = torch.cartesian_prod(side, side) + 0.1
    scope = CompletePairs(neighbors=4)  # itself and three of the four at one step
    gap = scope._distances(pos, torch.zeros(25, dtype=torch.long)).view(25, 25)
    middle = (gap[12] < 100).nonzero()[:, 0].tolist()
    assert {7, 11, 13, 17} <= set(middle)
    assert torch.equal(gap, gap.T)
    for angle in torch.linspace(0.1, 3, 20):  # turned, distances that tie differ by rounding
        turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
        turned = scope._distances(pos @ turn, torch.zeros(25, dtype=torch.long)).view(25, 25)
        assert torch.equal(turned == 100, gap == 100)


def test_diagonal_of_every_slice_is_100(graph):
    graphs = [graph, replace(scaled(graph, 7.0), slice_id="large")]
    box = SliceBox(graphs)
    whole = part_with_halo(graph, np.arange(70), 1)
    corner = np.linalg.norm(graph.pos.max(0) - graph.pos.min(0))
    for scope in (EdgePairs(unit="diagonal"), CompletePairs(unit="diagonal")):
        alone = scope(box(part_data(graph, whole)))
        batch = scope(Batch.from_data_list([box(part_data(each, whole)) for each in graphs]))
        spacing = type(scope)()(part_data(graph, whole))
        torch.testing.assert_close(
            alone.edges.distance, spacing.edges.distance * graph.spacing / corner * 100, rtol=1e-4, atol=1e-3
        )
        near = batch.edges.distance[batch.near].view(2, -1)
        torch.testing.assert_close(near[0], near[1], rtol=1e-4, atol=1e-3)


def test_what_it_refuses(graph):
    data = to_hetero_data(graph)
    for scope in (EdgePairs(unit="diagonal"), CompletePairs(unit="diagonal")):
        with pytest.raises(InputError, match=r"needs the bounding box of the whole slice.*SliceBox"):
            scope(data)
    number = 1 + len(graph.virtual) + len(graph)
    with pytest.raises(InputError, match=f"a part of {number} nodes, more than its max_nodes of 100: cut the slice"):
        CompletePairs(max_nodes=100)(data)
    with pytest.raises(InputError, match="neighbors of at least 1, not 0"):
        CompletePairs(neighbors=0)
    with pytest.raises(InputError, match=r"positive far distance, not 0\.0"):
        CompletePairs(far=0.0)
    for wrong in ({"neighbors": 2.5}, {"neighbors": True}, {"max_nodes": 100.0}):
        with pytest.raises(InputError, match=f"CompletePairs needs a whole number as {next(iter(wrong))}"):
            CompletePairs(**wrong)
    with pytest.raises(InputError, match="unit must be 'spacing' or 'diagonal', not 'micron'"):
        EdgePairs(unit="micron")


def test_a_single_cell_is_a_slice():
    one = part_data(*single())
    for scope in (EdgePairs(), CompletePairs(), CompletePairs(neighbors=50)):
        pairs = scope(one)
        assert pairs.edges.num_edges == 4 - isinstance(scope, EdgePairs)
        assert not pairs.edges.distance.any()


def single():
    import stgraph

    graph = build_graph(stgraph.synthetic_tissue(n_cells=60, n_genes=60)[0], virtual_cells=None)
    return graph, part_with_halo(graph, np.arange(1), 0)
