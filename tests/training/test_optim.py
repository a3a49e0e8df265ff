import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stgraph.data.parts import PartDataset
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.io.synthetic import synthetic_tissue
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.balance import LearnedBalance
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.training.loop import Trainer
from stgraph.training.optim import adamw, clipped, set_lr, share_of_lr, warmup_cosine, warmup_linear


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@given(warmup=st.integers(0, 50), steps=st.integers(1, 500))
def test_up_then_down_between_zero_and_one(schedule, warmup, steps):
    share = [share_of_lr(schedule, step, warmup, steps) for step in range(steps)]
    assert all(0 <= s <= 1 for s in share)
    assert share[0] > 0
    top = min(warmup, steps)
    assert share[:top] == sorted(share[:top])
    assert share[top:] == sorted(share[top:], reverse=True)


def test_the_ways_down():
    assert [warmup_linear(step, 500, 10_500) for step in (0, 499, 500, 5500, 10_500)] == [1 / 500, 1, 1, 0.5, 0]
    assert share_of_lr("linear", 700, 500, 1500) == warmup_linear(700, 500, 1500) == 0.8
    assert share_of_lr("cosine", 700, 500, 1500) == warmup_cosine(700, 500, 1500) != 0.8


def test_rows_and_numbers_do_not_decay():
    """Centres and widths of Gaussians, which a network may keep in an embedding of one row."""
    module = nn.Sequential(nn.Embedding(1, 9), nn.Linear(1, 1), nn.Linear(7, 1))
    matrices, others = adamw(module, lr=0.1, weight_decay=0.5).param_groups
    assert [tuple(p.shape) for p in matrices["params"]] == [(1, 7)]
    assert [tuple(p.shape) for p in others["params"]] == [(1, 9), (1, 1), (1,), (1,)]


def test_weights_of_losses_have_a_rate_of_their_own():
    objective = WeightedSum([MaskedCell(), DistanceRecovery(), LearnedBalance(lr=0.05)])
    module = nn.ModuleList([nn.Linear(2, 3), objective])
    optimizer = adamw(module, lr=1e-4, weight_decay=0.5)
    assert len({p for group in optimizer.param_groups for p in group["params"]}) == 4
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1, 2]
    assert set_lr(optimizer, 1e-4, 0.5) == 5e-5
    assert [group["lr"] for group in optimizer.param_groups] == [5e-5, 5e-5, 0.025]
    assert optimizer.param_groups[2]["weight_decay"] == 0
    assert clipped(optimizer) == list(module[0].parameters())
    assert clipped(adamw(nn.Linear(2, 3), lr=0.1, weight_decay=0.5)) is None
    with pytest.raises(InputError, match="LearnedBalance needs"):
        LearnedBalance(lr=0.0)


def test_weights_of_losses_are_learnt_at_the_rate_of_a_large_network(tissue):
    """With a small rate, and a gradient of the network that is cut to almost nothing."""
    dataset = PartDataset([build_graph(tissue)], CoordinateBisection(110))
    objective = WeightedSum([MaskedCell(), DistanceRecovery(weight=1.0), LearnedBalance()])
    trainer = Trainer(max_steps=60, lr=1e-4, grad_clip=1e-3, warmup_steps=5)
    torch.manual_seed(0)
    history = trainer.fit(SE2Transformer(20, hidden_channels=8), dataset, objective)
    truth = math.log(sum(record["distance_recovery"] for record in history) / len(history))
    said = objective.balance.log_variance["distance_recovery"].item()
    assert abs(truth) > 0.3
    assert abs(said) > 0.2
    assert math.copysign(1, said) == math.copysign(1, truth)


def test_matrices_decay():
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Embedding(4, 5))
    matrices, others = adamw(module, lr=0.1, weight_decay=0.5).param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert [tuple(p.shape) for p in matrices["params"]] == [(3, 2), (4, 5)]
    assert [tuple(p.shape) for p in others["params"]] == [(3,), (3,), (3,)]


def test_betas_are_those_of_the_trainer():
    """After one step the first moment is the gradient times 1 - beta; after a step the second its square times that."""
    module = nn.Linear(2, 3)
    optimizer = adamw(module, lr=0.1, weight_decay=0.0, betas=(0.8, 0.95))
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = optimizer.state[module.bias]
    assert torch.allclose(state["exp_avg"], 0.2 * module.bias.grad)
    assert torch.allclose(state["exp_avg_sq"], 0.05 * module.bias.grad**2)


def test_a_config_may_give_betas_as_a_list_and_they_change_training(small_parts):
    def losses(**settings):
        torch.manual_seed(0)
        model = SE2Transformer(20, hidden_channels=8)
        trainer = Trainer(max_steps=4, warmup_steps=1, **settings)
        return [record["loss"] for record in trainer.fit(model, small_parts, WeightedSum([MaskedCell()]))]

    assert Trainer(betas=[0.9, 0.999]) == Trainer()
    assert losses(betas=[0.9, 0.999]) == losses()
    assert losses(betas=(0.5, 0.9)) != losses()
    free, bound = losses(grad_clip=math.inf), losses(grad_clip=1e-3)
    assert all(map(math.isfinite, free))
    assert free[0] == bound[0]


@pytest.fixture(scope="module")
def small_parts():
    graph = build_graph(synthetic_tissue(n_cells=200, n_genes=60)[0])
    return PartDataset([graph], CoordinateBisection(100))


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 1.0), (-0.1, 0.9)])
def test_bad_betas(betas):
    with pytest.raises(InputError, match="two betas, each from 0 to below 1"):
        Trainer(betas=betas)
