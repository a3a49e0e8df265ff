"""Parts of slices in stock PyG: its loader, its convolutions, its ways to make models for many types."""

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.data import HeteroData
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GATv2Conv, HeteroConv, SAGEConv, to_hetero

from stgraph.data.convert import HAS_MEMBER, MEMBER_OF, NEAR, TO_CELL, TO_VIRTUAL, VIRTUAL_NEAR, to_hetero_data
from stgraph.data.parts import PartDataset
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.partition.metis import Metis


@pytest.fixture
def dataset(slices):
    return PartDataset([build_graph(adata, builder=KNN(6)) for adata in slices], Metis(80), num_hops=1)


def domain_of(adata, part):
    codes = adata.obs["domain"].astype("category").cat.codes.to_numpy(copy=True)
    return torch.from_numpy(codes).long()[part["cell"].index]


def train(model, steps, loss_of):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(steps):
        loss = loss_of(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_fall_apart_into_what_they_were_made_of(dataset, num_workers, assert_same):
    seen = 0
    for batch in DataLoader(dataset, batch_size=3, num_workers=num_workers):
        assert batch.validate()
        assert batch.slice_id == dataset.slice_of[seen : seen + batch.num_graphs]
        assert batch.unit == ["um"] * batch.num_graphs
        assert batch.origin.shape == (batch.num_graphs, 2)
        assert batch.spacing.shape == (batch.num_graphs,)
        for source, _, target in batch.edge_types:
            edges = batch[source, _, target].edge_index
            assert torch.equal(batch[source].batch[edges[0]], batch[target].batch[edges[1]])
        for part in batch.to_data_list():
            assert_same(part, dataset[seen])
            seen += 1
    assert seen == len(dataset)


class Stock(torch.nn.Module):
    def __init__(self, out_channels):
        super().__init__()
        self.first = SAGEConv((-1, -1), 16)
        self.second = SAGEConv((-1, -1), out_channels)

    def forward(self, x, edge_index):
        return self.second(self.first(x, edge_index).relu(), edge_index)


def test_a_stock_network_made_for_our_types_learns(slices, dataset):
    part = dataset[0]
    target = domain_of(slices[0], part)
    torch.manual_seed(0)
    model = to_hetero(Stock(int(target.max()) + 1), part.metadata())
    owned = part["cell"].owned

    def loss_of(model):
        return F.cross_entropy(model(part.x_dict, part.edge_index_dict)["cell"][owned], target[owned])

    with torch.no_grad():
        loss_of(model)  # widths of the lazy layers
    losses = train(model, 40, loss_of)
    assert losses[-1] < 0.3 * losses[0]


class Mixed(torch.nn.Module):
    """Attention that reads lengths along some edges, means along others."""

    def __init__(self, out_channels):
        super().__init__()
        self.first, self.second = self.layer(16), self.layer(out_channels)

    @staticmethod
    def layer(channels):
        with_lengths = {
            edge_type: GATv2Conv((-1, -1), channels, edge_dim=1, add_self_loops=False)
            for edge_type in (NEAR, TO_CELL, TO_VIRTUAL, VIRTUAL_NEAR)
        }
        without = {edge_type: SAGEConv((-1, -1), channels) for edge_type in (MEMBER_OF, HAS_MEMBER)}
        return HeteroConv(with_lengths | without)

    def forward(self, data: HeteroData):
        lengths = {t: data[t].edge_attr / 100 for t in (NEAR, TO_CELL, TO_VIRTUAL, VIRTUAL_NEAR)}
        x = self.first(data.x_dict, data.edge_index_dict, edge_attr_dict=lengths)
        return self.second({kind: h.relu() for kind, h in x.items()}, data.edge_index_dict, edge_attr_dict=lengths)


def test_attention_over_lengths_learns_on_a_batch(slices, dataset):
    by_slice = {adata.obs["slice_id"].iloc[0]: adata for adata in slices}
    batch = next(iter(DataLoader(dataset, batch_size=5)))
    target = torch.cat([domain_of(by_slice[part.slice_id], part) for part in batch.to_data_list()])
    owned = batch["cell"].owned
    torch.manual_seed(0)
    model = Mixed(int(target.max()) + 1)

    def loss_of(model):
        return F.cross_entropy(model(batch)["cell"][owned], target[owned])

    with torch.no_grad():
        loss_of(model)
    losses = train(model, 40, loss_of)
    assert losses[-1] < 0.5 * losses[0]


def test_attention_reads_the_lengths(tissue):
    data = to_hetero_data(build_graph(tissue, builder=KNN(6)))
    torch.manual_seed(0)
    model = Mixed(4)
    with torch.no_grad():
        before = model(data)["cell"]
        data[NEAR].edge_attr = data[NEAR].edge_attr * 3
        assert not torch.allclose(before, model(data)["cell"])


def test_without_virtual_cells_a_stock_network_runs(tissue):
    data = to_hetero_data(build_graph(tissue, virtual_cells=None))
    model = to_hetero(Stock(3), data.metadata())
    with torch.no_grad():
        out = model(data.x_dict, data.edge_index_dict)
    assert out["cell"].shape == (tissue.n_obs, 3)
    assert torch.isfinite(out["cell"]).all()
