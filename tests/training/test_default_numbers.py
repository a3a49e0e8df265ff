"""The path most people use gives the numbers it has always given, to the bit."""

import pytest
import torch
from torch_geometric.loader import DataLoader

from stgraph.data.parts import PartDataset
from stgraph.graph.build import build_graph
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.training.loop import Trainer
from stgraph.training.optim import warmup_cosine

SETTINGS = {"max_steps": 11, "lr": 0.01, "warmup_steps": 3, "weight_decay": 0.1, "grad_clip": 0.5}

RECORDED = [0.994495, 1.032622, 1.088075, 1.118638, 1.047335, 0.981217, 1.010879, 0.979925, 1.06547, 1.092227, 0.936248]
"""Losses of the loop of version 0.1, before steps of several batches, several processes and resume points."""


@pytest.fixture
def dataset(slices):
    return PartDataset([build_graph(adata) for adata in slices], CoordinateBisection(70))


def model():
    torch.manual_seed(3)
    return SE2Transformer(20, hidden_channels=16, dropout=0.1)


def first_loop(model, dataset, objective, batch_size, seed):
    """The loop as it was, without what people see of it."""
    torch.manual_seed(seed)
    order, noise = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, generator=order)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": SETTINGS["weight_decay"]},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=SETTINGS["lr"])
    model.train()
    history = []
    while True:
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = SETTINGS["lr"] * warmup_cosine(
                    len(history), SETTINGS["warmup_steps"], SETTINGS["max_steps"]
                )
            losses = objective(model, batch, noise)
            losses["loss"].backward()
            torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], SETTINGS["grad_clip"])
            optimizer.step()
            optimizer.zero_grad()
            history.append({name: loss.item() for name, loss in losses.items()})
            if len(history) == SETTINGS["max_steps"]:
                return history


@pytest.mark.parametrize(("batch_size", "seed"), [(1, 0), (3, 7)])
def test_as_the_first_loop(dataset, batch_size, seed):
    objective = WeightedSum([MaskedCell(), DistanceRecovery()])
    ours, theirs = model(), model()
    history = Trainer(batch_size=batch_size, random_state=seed, **SETTINGS).fit(ours, dataset, objective)
    expected = first_loop(theirs, dataset, objective, batch_size, seed)
    assert [{name: record[name] for name in expected[0]} for record in history] == expected
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_as_recorded(dataset):
    history = Trainer(batch_size=3, random_state=7, **SETTINGS).fit(model(), dataset, WeightedSum([MaskedCell()]))
    # Another machine adds up in another order.
    assert [record["loss"] for record in history] == pytest.approx(RECORDED, abs=1e-3)
