from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import SAGEConv, to_hetero
from torch_geometric.utils import k_hop_subgraph

from stgraph.data.convert import HAS_MEMBER, NEAR, TO_VIRTUAL, to_hetero_data
from stgraph.data.sampling import NeighborLoader
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN


@pytest.fixture
def slice_data(tissue):
    return to_hetero_data(build_graph(tissue, builder=KNN(6)))


@pytest.fixture
def flat(slice_data):
    """The cells of a slice as homogeneous `Data`."""
    cell, near = slice_data["cell"], slice_data[NEAR]
    return Data(x=cell.x, pos=cell.pos, edge_index=near.edge_index, edge_attr=near.edge_attr)


def check_hetero(data, batch, num_neighbors, replace=False):
    """What is drawn is there, belongs together, and is not more than was asked for."""
    assert batch.validate()
    for kind in data.node_types:
        for key in data[kind]:
            assert torch.equal(batch[kind][key], data[kind][key][batch[kind].n_id]), (kind, key)
        n_id = batch[kind].n_id
        assert len(n_id.unique()) == len(n_id) == batch[kind].num_nodes
        assert sum(batch[kind].num_sampled_nodes) == len(n_id)
    hops = len(next(iter(num_neighbors.values())))
    for edge_type in data.edge_types:
        store, whole = batch[edge_type], data[edge_type]
        source, target = store.edge_index
        reached = torch.stack([batch[edge_type[0]].n_id[source], batch[edge_type[2]].n_id[target]])
        assert torch.equal(reached, whole.edge_index[:, store.e_id])
        assert torch.equal(store.edge_attr, whole.edge_attr[store.e_id])
        assert sum(store.num_sampled_edges) == len(source)
        assert len(store.num_sampled_edges) == hops
        assert (torch.diff(target) >= 0).all()
        assert replace or len(store.e_id.unique()) == len(store.e_id)
        # Nodes of hop h - 1 were asked for edges in hop h.
        in_degree = torch.bincount(target, minlength=batch[edge_type[2]].num_nodes)
        whole_degree = torch.bincount(whole.edge_index[1], minlength=data[edge_type[2]].num_nodes)
        degree = whole_degree[batch[edge_type[2]].n_id]
        begin = 0
        for hop, count in enumerate(num_neighbors[edge_type]):
            end = begin + batch[edge_type[2]].num_sampled_nodes[hop]
            expected = degree[begin:end]
            if count >= 0:
                expected = torch.where(expected > 0, count, 0) if replace else expected.clamp(max=count)
            assert torch.equal(in_degree[begin:end], expected)
            begin = end
        assert not in_degree[begin:].any()


@pytest.mark.parametrize("replace", [False, True])
def test_a_batch_of_a_slice(slice_data, replace):
    fanout = {edge_type: [4, 2] for edge_type in slice_data.edge_types}
    fanout[TO_VIRTUAL], fanout[HAS_MEMBER] = [40, 3], [0, -1]
    loader = NeighborLoader(slice_data, fanout, "cell", replace=replace, batch_size=50)
    seeds = []
    for batch in loader:
        check_hetero(slice_data, batch, fanout, replace)
        assert batch["cell"].batch_size == len(batch["cell"].input_id) == batch["cell"].num_sampled_nodes[0]
        assert torch.equal(batch["cell"].n_id[: batch["cell"].batch_size], batch["cell"].input_id)
        assert (batch.slice_id, batch.unit) == (slice_data.slice_id, "um")
        seeds.append(batch["cell"].input_id)
    assert torch.cat(seeds).tolist() == list(range(320))


@settings(deadline=None, max_examples=60)
@given(draw=st.data())
def test_any_graph_of_two_types(draw):
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32 - 1)))
    data = HeteroData()
    for kind in "ab":
        data[kind].x = torch.arange(draw.draw(st.integers(1, 9)))[:, None].float()
    for source, target in ("aa", "ab", "ba"):
        count = draw.draw(st.integers(0, 40))
        ends = [rng.integers(0, data[kind].num_nodes, count) for kind in (source, target)]
        data[source, "to", target].edge_index = torch.from_numpy(np.stack(ends))  # loops and repeats too
        data[source, "to", target].edge_attr = torch.arange(count)[:, None].float()
    hops = draw.draw(st.integers(1, 3))
    counts = st.lists(st.sampled_from([-1, 0, 1, 2, 5]), min_size=hops, max_size=hops)
    fanout = {edge_type: draw.draw(counts) for edge_type in data.edge_types}
    replace = draw.draw(st.booleans())
    for batch in NeighborLoader(data, fanout, ("a", None), replace=replace, batch_size=3):
        check_hetero(data, batch, fanout, replace)


@settings(deadline=None, max_examples=40)
@given(draw=st.data())
def test_all_neighbours_are_the_k_hop_subgraph(draw):
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32 - 1)))
    n, hops = draw.draw(st.integers(1, 12)), draw.draw(st.integers(1, 3))
    pairs = np.argwhere(rng.random((n, n)) < 0.2)
    edge_index = torch.from_numpy(rng.permutation(pairs).T.copy())
    data = Data(edge_index=edge_index, num_nodes=n, tag=torch.arange(n))
    seeds = torch.from_numpy(rng.choice(n, rng.integers(1, n + 1), replace=False))
    for kind in ("directional", "induced"):
        loader = NeighborLoader(data, [-1] * hops, seeds, subgraph_type=kind, batch_size=n)
        (batch,) = loader
        nodes, _, _, inside = k_hop_subgraph(seeds, hops, edge_index, num_nodes=n)
        assert batch.n_id[: len(seeds)].tolist() == seeds.tolist()
        assert batch.n_id.sort().values.tolist() == nodes.tolist()
        if kind == "induced":
            assert batch.e_id.sort().values.tolist() == inside.nonzero()[:, 0].tolist()
        else:  # every edge into the nodes reached before the last hop
            inner = k_hop_subgraph(seeds, hops - 1, edge_index, num_nodes=n)[0] if hops > 1 else seeds
            assert batch.e_id.sort().values.tolist() == torch.isin(edge_index[1], inner).nonzero()[:, 0].tolist()
        assert torch.equal(batch.n_id[batch.edge_index], edge_index[:, batch.e_id])
        assert torch.equal(batch.tag, batch.n_id)


def test_induced_in_many_types(slice_data):
    loader = NeighborLoader(slice_data, [3, 2], ("cell", torch.arange(20)), subgraph_type="induced", batch_size=20)
    (batch,) = loader
    for edge_type in slice_data.edge_types:
        source, target = slice_data[edge_type].edge_index
        inside = torch.isin(source, batch[edge_type[0]].n_id) & torch.isin(target, batch[edge_type[2]].n_id)
        assert batch[edge_type].e_id.sort().values.tolist() == inside.nonzero()[:, 0].tolist()
        assert "num_sampled_edges" not in batch[edge_type]  # they would not be those that are there
        reached = [batch[edge_type[i]].n_id[batch[edge_type].edge_index[j]] for i, j in ((0, 0), (2, 1))]
        assert torch.equal(torch.stack(reached), slice_data[edge_type].edge_index[:, batch[edge_type].e_id])


@pytest.mark.parametrize(
    ("degree", "count"),
    [(5, 2), (6, 5), (40, 33), (1200, 33)],  # the last two lie on both sides of the change of method
)
def test_every_subset_is_as_likely(degree, count):
    star = Data(edge_index=torch.stack([torch.arange(1, degree + 1), torch.zeros(degree, dtype=torch.long)]))
    star.num_nodes = degree + 1
    loader = NeighborLoader(star, [count], torch.tensor([0]), generator=torch.Generator().manual_seed(0))
    rounds = 3000
    drawn = [next(iter(loader)).e_id for _ in range(rounds)]
    assert all(len(edges.unique()) == count for edges in drawn)
    often = torch.bincount(torch.cat(drawn), minlength=degree).double()
    p = count / degree
    spread = (often - rounds * p).square().sum() / (rounds * p * (1 - p))
    assert spread < degree + 6 * (2 * degree) ** 0.5  # chi-square, at six standard deviations
    if degree == 5:
        pairs = Counter(tuple(sorted(edges.tolist())) for edges in drawn)
        assert len(pairs) == 10
        assert sum((seen - 300) ** 2 / 300 for seen in pairs.values()) < 9 + 6 * 18**0.5


def test_with_replacement_every_draw_is_as_likely():
    star = Data(edge_index=torch.tensor([[1, 2, 3], [0, 0, 0]]), num_nodes=4)
    loader = NeighborLoader(star, [2], torch.tensor([0]), replace=True, generator=torch.Generator().manual_seed(0))
    pairs = Counter(tuple(next(iter(loader)).e_id.tolist()) for _ in range(2700))
    assert len(pairs) == 9
    assert sum((seen - 300) ** 2 / 300 for seen in pairs.values()) < 8 + 6 * 16**0.5


class Sage(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = SAGEConv((-1, -1), 16), SAGEConv((-1, -1), 3)

    def forward(self, x, edge_index):
        return self.second(self.first(x, edge_index).relu(), edge_index)


def test_with_all_neighbours_seeds_get_what_the_whole_slice_gives(slice_data):
    torch.manual_seed(0)
    model = to_hetero(Sage(), slice_data.metadata())
    target = slice_data["cell"].x[:, :3]
    with torch.no_grad():
        model(slice_data.x_dict, slice_data.edge_index_dict)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    sampled = NeighborLoader(slice_data, [5, 5], "cell", batch_size=80, shuffle=True)
    for batch in [batch for _ in range(8) for batch in sampled]:
        size = batch["cell"].batch_size
        predicted = model(batch.x_dict, batch.edge_index_dict)["cell"][:size]
        loss = F.mse_loss(predicted, target[batch["cell"].n_id[:size]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        expected = model(slice_data.x_dict, slice_data.edge_index_dict)["cell"]
        for batch in NeighborLoader(slice_data, [-1, -1], "cell", batch_size=100):
            out = model(batch.x_dict, batch.edge_index_dict)["cell"][: batch["cell"].batch_size]
            torch.testing.assert_close(out, expected[batch["cell"].input_id], rtol=1e-4, atol=1e-5)


def e_ids(loader):
    return [batch.e_id for batch in loader]


def equal(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_seed_decides(flat, num_workers):
    def run(seed, by):
        generator = torch.Generator().manual_seed(seed) if by == "generator" else None
        if generator is None:
            torch.manual_seed(seed)
        loader = NeighborLoader(
            flat, [2, 2], batch_size=100, shuffle=True, num_workers=num_workers, generator=generator
        )
        return e_ids(loader), e_ids(loader)

    with torch.random.fork_rng():
        for by in ("generator", "global"):
            (first, second), again, other = run(0, by), run(0, by), run(1, by)
            assert equal(first, again[0])
            assert equal(second, again[1])
            assert not equal(first, second)  # another epoch
            assert not equal(first, other[0])


def test_with_a_generator_workers_and_epochs_differ(flat):
    # The same seed of the batch, four times; workers have copies of the generator.
    seeds = torch.tensor([7] * 4)
    loader = NeighborLoader(flat, [2], seeds, num_workers=2, generator=torch.Generator().manual_seed(0))
    drawn = [tuple(e_id.sort().values.tolist()) for _ in range(4) for e_id in e_ids(loader)]
    assert len(set(drawn)) > 4  # of at least 15 pairs of neighbours; copies would draw 2
    assert len(set(drawn[::4])) > 1


def test_a_generator_leaves_the_global_one_alone(flat):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(NeighborLoader(flat, [2], batch_size=100, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.rand(3), expected)


def test_seeds(slice_data, flat):
    mask = torch.arange(320) % 7 == 0
    for data, kind in ((slice_data, "cell"), (flat, None)):
        for given_seeds, expected in (
            (None, range(320)),
            (mask, range(0, 320, 7)),
            (torch.tensor([9, 3, 5]), [9, 3, 5]),
        ):
            seeds = given_seeds if kind is None else (kind, given_seeds)
            found = []
            for batch in NeighborLoader(data, [2], seeds, batch_size=64):
                store = batch if kind is None else batch[kind]
                found += store.n_id[: store.batch_size].tolist()
            assert found == list(expected)


def test_a_seed_given_twice_is_there_twice(flat):
    (batch,) = NeighborLoader(flat, [-1], torch.tensor([4, 8, 4]), batch_size=3)
    assert batch.n_id[:3].tolist() == [4, 8, 4]
    in_degree = torch.bincount(batch.edge_index[1])
    assert in_degree[0] == in_degree[2] == (flat.edge_index[1] == 4).sum()
    assert torch.equal(batch.n_id[batch.edge_index], flat.edge_index[:, batch.e_id])
    beside = int(flat.edge_index[0, flat.edge_index[1] == 4][0])
    (batch,) = NeighborLoader(flat, [-1], torch.tensor([4, beside, 4]), batch_size=3)
    assert 0 in batch.edge_index[0]  # as a source it has the number it had first
    assert 2 not in batch.edge_index[0]


def test_batches_do_not_see_each_other(flat):
    (alone,) = NeighborLoader(flat, [-1, -1], torch.arange(100, 120), batch_size=20)
    *_, last = NeighborLoader(flat, [-1, -1], torch.arange(120), batch_size=20)
    assert torch.equal(alone.n_id, last.n_id)
    assert torch.equal(alone.edge_index, last.edge_index)


def test_transforms_are_called(flat):
    drawn = []

    def look(out):
        drawn.append(len(out.node))
        return out

    def mark(batch):
        batch.mark = 1
        return batch

    batches = list(NeighborLoader(flat, [2], batch_size=160, transform=mark, transform_sampler_output=look))
    assert drawn == [batch.num_nodes for batch in batches]
    assert all(batch.mark == 1 for batch in batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disjoint": True}, "does not offer 'disjoint'"),
        ({"time_attr": "t"}, "does not offer 'time_attr'"),
        ({"input_time": torch.zeros(1)}, "does not offer 'input_time'"),
        ({"weight_attr": "edge_attr"}, "does not offer 'weight_attr'"),
        ({"temporal_strategy": "last"}, "does not offer 'temporal_strategy'"),
        ({"neighbor_sampler": object()}, "does not offer 'neighbor_sampler'"),
        ({"subgraph_type": "bidirectional"}, "'directional' or 'induced' here, not 'bidirectional'"),
        ({"num_neighbors": []}, "one number for each hop, at least one"),
        ({"num_neighbors": 5}, "a list with a number for each hop, not 5"),
        ({"input_nodes": ("cell", torch.tensor([1.5]))}, r"an index or a mask of 320 nodes, not torch\.float32"),
        ({"num_neighbors": [-2]}, "0 or more, or -1 for all, not -2"),
        ({"num_neighbors": [2.5]}, "0 or more, or -1 for all, not 2.5"),
        ({"num_neighbors": {NEAR: [2]}}, r"must name every edge type of the data: \{.*\} missing, none unknown"),
        ({"input_nodes": None}, "must name a node type of the data"),
        ({"input_nodes": torch.arange(3)}, "must name a node type of the data"),
        ({"input_nodes": "gene"}, r"must name a node type of the data \(cell, virtual\)"),
        ({"input_nodes": ("cell", torch.tensor([320]))}, "no node: there are 320"),
        ({"input_nodes": ("cell", torch.ones(7, dtype=torch.bool))}, "an index or a mask of 320 nodes"),
    ],
)
def test_what_is_not_offered_or_does_not_fit_is_refused(slice_data, options, message):
    arguments = {"num_neighbors": [2], "input_nodes": "cell"} | options
    with pytest.raises(InputError, match=message):
        NeighborLoader(slice_data, **arguments)


def test_broken_edges_are_refused(flat):
    flat.edge_index = flat.edge_index.clone()
    flat.edge_index[0, 0] = 320
    with pytest.raises(InputError, match="name a source that is no node"):
        NeighborLoader(flat, [2])
    del flat.edge_index
    with pytest.raises(InputError, match="have no edge_index"):
        NeighborLoader(flat, [2])
