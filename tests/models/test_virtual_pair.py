"""Pair states of virtual cells: those of the right edges."""

import pytest
import torch
from torch_geometric.data import Batch

from stgraph.data.convert import NEAR, TO_CELL, to_hetero_data
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.models.pair_scope import CompletePairs, EdgePairs
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery

MODELS = {
    "queries": lambda: SE2Transformer(20, hidden_channels=16),
    "edges": lambda: SToFMSE2(20, 16, 1, 2, 16, scope=EdgePairs()),
    "complete": lambda: SToFMSE2(20, 16, 1, 2, 16, scope=CompletePairs()),
}


@pytest.fixture
def batch(slices):
    parts = [to_hetero_data(build_graph(adata)) for adata in slices]
    return Batch.from_data_list(parts)


@pytest.mark.parametrize("scope", [EdgePairs(), CompletePairs()])
def test_places_of_pairs(batch, scope):
    batch[TO_CELL].true_length = batch[TO_CELL].edge_attr[:, 0]
    order = torch.randperm(batch[TO_CELL].num_edges, generator=torch.Generator().manual_seed(0))
    batch[TO_CELL].edge_index = batch[TO_CELL].edge_index[:, order]
    pairs = scope(batch)
    virtual, cell = batch[TO_CELL].edge_index
    assert torch.equal(pairs.edges.row[pairs.informs], pairs.cell[cell])
    assert torch.equal(pairs.edges.col[pairs.informs], pairs.virtual[virtual])


@pytest.mark.parametrize("name", MODELS)
def test_they_come_when_asked_for_and_are_learnt_from(batch, name):
    torch.manual_seed(0)
    model = MODELS[name]()
    assert model(batch).virtual_pair is None
    objective = DistanceRecovery(0.1, 3.0, rebuild=KNN(8), with_virtual=True, center=2.5, spread=0.8)
    corrupted = objective.corrupt(batch, torch.Generator().manual_seed(0))
    output = model(corrupted)
    assert len(output.virtual_pair) == batch[TO_CELL].num_edges
    assert len(output.near_pair) == corrupted[NEAR].num_edges
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(20):
        loss = WeightedSum([objective])(model, batch, torch.Generator().manual_seed(step % 3))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < sum(losses[:3])


def test_the_state_of_a_pair_is_its_own(batch):
    """With one layer, a longer edge changes the state of that pair alone."""
    torch.manual_seed(0)
    model = SE2Transformer(20, hidden_channels=16).eval()
    batch[TO_CELL].true_length = batch[TO_CELL].edge_attr[:, 0]
    before = model(batch).virtual_pair
    edge = 17
    batch[TO_CELL].edge_attr = batch[TO_CELL].edge_attr.clone()
    batch[TO_CELL].edge_attr[edge] += 50.0
    changed = (model(batch).virtual_pair != before).any(dim=1)
    assert changed.nonzero()[:, 0].tolist() == [edge]
