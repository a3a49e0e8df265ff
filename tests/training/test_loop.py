import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from stgraph.data.parts import PartDataset
from stgraph.errors import InputError, TrainingError
from stgraph.graph.build import build_graph
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.training.loop import Trainer
from stgraph.training.optim import warmup_cosine


@pytest.fixture
def dataset(slices):
    return PartDataset([build_graph(adata) for adata in slices], CoordinateBisection(100))


def objective():
    return WeightedSum([MaskedCell(), DistanceRecovery()])


def train(dataset, seed=0, **settings):
    torch.manual_seed(0)
    model = SE2Transformer(dataset[0]["cell"].x.shape[1], hidden_channels=32)
    history = Trainer(random_state=seed, **settings).fit(model, dataset, objective())
    return model, history


def judged(model, dataset):
    """Mean loss of all parts, corrupted always alike."""
    with torch.no_grad():
        losses = [
            objective()(model, batch, torch.Generator().manual_seed(seed))["loss"]
            for batch in map(Batch.from_data_list, ([part] for part in dataset))
            for seed in range(5)
        ]
    return float(torch.stack(losses).mean())


def test_loss_goes_down(dataset):
    untrained, _ = train(dataset, max_steps=1, lr=1e-12)
    trained, _ = train(dataset, max_steps=60)
    assert judged(trained, dataset) < 0.95 * judged(untrained, dataset)


def test_same_seed_same_numbers(dataset):
    (one, first), (two, second) = train(dataset, max_steps=8), train(dataset, max_steps=8)
    timeless = [{k: v for k, v in record.items() if k != "cells_per_second"} for record in first]
    assert timeless == [{k: v for k, v in record.items() if k != "cells_per_second"} for record in second]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    _, other = train(dataset, seed=1, max_steps=8)
    assert first[-1]["loss"] != other[-1]["loss"]


def test_the_global_generator_is_left_alone(dataset):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = SE2Transformer.__new__(SE2Transformer)
    with torch.random.fork_rng():
        model.__init__(dataset[0]["cell"].x.shape[1], hidden_channels=32)
    Trainer(max_steps=2).fit(model, dataset, objective())
    assert torch.equal(torch.rand(3), expected)


def test_records(dataset):
    seen = []
    torch.manual_seed(0)
    model = SE2Transformer(dataset[0]["cell"].x.shape[1], hidden_channels=32)
    history = Trainer(max_steps=7, batch_size=4, warmup_steps=2).fit(model, dataset, objective(), on_step=seen.append)
    assert seen == history
    assert [record["step"] for record in history] == list(range(1, 8))
    assert [record["epoch"] for record in history] == [1, 1, 2, 2, 3, 3, 4]
    assert {"loss", "masked_cell", "distance_recovery", "lr", "cells_per_second"} <= set(history[0])
    assert history[1]["lr"] == Trainer().lr
    assert not model.training


def test_the_learning_rate_follows_the_schedule(dataset):
    _, history = train(dataset, max_steps=10, warmup_steps=4, lr=0.01)
    assert [record["lr"] for record in history] == [0.01 * warmup_cosine(step, 4, 10) for step in range(10)]


def test_weights_decay_and_gradients_are_clipped(dataset):
    first, _ = train(dataset, max_steps=4)
    for changed in ({"weight_decay": 0.5}, {"grad_clip": 1e-8}):
        other, _ = train(dataset, max_steps=4, **changed)
        assert (first.encode.weight - other.encode.weight).abs().max() > 1e-5


def test_bfloat16(dataset):
    _, history = train(dataset, max_steps=3, precision="bf16-mixed")
    assert all(np.isfinite(record["loss"]) for record in history)


def test_a_loss_that_is_not_finite_stops_with_advice(dataset):
    dataset.graphs[0].x[:] = float("nan")
    with pytest.raises(TrainingError, match=r"'loss' is nan at step \d+: try a smaller trainer.lr"):
        train(dataset, max_steps=30)


@pytest.mark.parametrize("wrong", [{"max_steps": 0}, {"batch_size": 0}, {"lr": 0.0}, {"grad_clip": -1.0}])
def test_senseless_parameters(wrong):
    with pytest.raises(InputError):
        Trainer(**wrong)
