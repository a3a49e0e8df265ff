import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from stgraph.data.convert import to_hetero_data
from stgraph.graph.build import build_graph
from stgraph.models.cell_predictor import CellPredictor
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.cell_truth import CellClasses, CellValues


@pytest.fixture
def batch(tissue):
    data = to_hetero_data(build_graph(tissue))
    generator = torch.Generator().manual_seed(0)
    data["cell"].truth = torch.randint(0, 3, (320,), generator=generator)
    return data


@pytest.fixture
def model(batch):
    torch.manual_seed(0)
    return CellPredictor(20 + 32, 3, SE2Transformer(20, hidden_channels=16), head_channels=[8])


def losses(model, batch, objective):
    return WeightedSum([objective])(model, batch, torch.Generator())["loss"]


def test_cross_entropy_is_that_of_scikit_learn(model, batch):
    probabilities = model.embed(batch).softmax(dim=1).double().numpy()
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    truth = batch["cell"].truth.numpy()
    loss = float(losses(model, batch, CellClasses()).detach())
    assert loss == pytest.approx(log_loss(truth, probabilities, labels=range(3)), rel=1e-5)
    weights = np.array([1.0, 5.0, 0.5])
    weighted = float(losses(model, batch, CellClasses(tuple(weights))).detach())
    expected = log_loss(truth, probabilities, labels=range(3), sample_weight=weights[truth])
    assert weighted == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["unknown", "halo"])
def test_unknown_cells_and_those_of_the_halo_are_not_counted(model, batch, kind):
    some = torch.arange(320) < 50
    whole = losses(model, batch, CellClasses())
    if kind == "unknown":
        batch["cell"].truth[~some] = -1
    else:
        batch["cell"].owned[~some] = False
    logits = model.embed(batch)[some]
    expected = torch.nn.functional.cross_entropy(logits, batch["cell"].truth[some])
    loss = losses(model, batch, CellClasses())
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)
    assert float(loss.detach()) != float(whole.detach())


def test_values(model, batch):
    truth = torch.randn(320, 3, generator=torch.Generator().manual_seed(1))
    truth[100:, 1] = float("nan")
    batch["cell"].truth = truth
    expected = ((model.embed(batch) - truth)[:100] ** 2).mean()
    assert float(losses(model, batch, CellValues()).detach()) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("objective", [CellClasses(), CellValues()])
def test_nothing_known_is_no_loss_and_no_error(model, batch, objective):
    if isinstance(objective, CellClasses):
        batch["cell"].truth[:] = -1
    else:
        batch["cell"].truth = torch.full((320, 3), float("nan"))
    loss = losses(model, batch, objective)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_losses_times_counts_add_up(model, batch):
    """With class weights, the count is the sum of the weights: each known cell counts what it would in one batch."""
    weights = (1.0, 5.0, 0.5)
    truth = batch["cell"].truth.clone()
    some = torch.arange(320) < 100

    def sums(objective, truth):
        batch["cell"].truth = truth
        count = WeightedSum([objective]).counts(batch)[objective.name]
        return float(losses(model, batch, objective).detach() * count), float(count)

    for objective, hidden in ((CellClasses(weights), -1), (CellClasses(), -1)):
        whole = sums(objective, truth)
        parts = [sums(objective, torch.where(kept, truth, hidden)) for kept in (some, ~some)]
        assert sum(loss for loss, _ in parts) == pytest.approx(whole[0], rel=1e-5)
        assert sum(count for _, count in parts) == pytest.approx(whole[1], rel=1e-6)
    values = torch.randn(320, 3, generator=torch.Generator().manual_seed(1))
    whole = sums(CellValues(), values)
    parts = [sums(CellValues(), torch.where(kept[:, None], values, float("nan"))) for kept in (some, ~some)]
    assert sum(loss for loss, _ in parts) == pytest.approx(whole[0], rel=1e-5)
    assert whole[1] == 320


def test_head_and_network_are_trained(model, batch):
    losses(model, batch, CellClasses()).backward()
    for part in (model.linear, model.hidden, model.network.blocks, model.network.encode):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())


def test_nothing_is_corrupted(batch):
    assert CellClasses().corrupt(batch, torch.Generator()) is batch
    assert CellValues().corrupt(batch, torch.Generator()) is batch
