import copy
import math

import pytest
import torch

from stgraph.data.parts import PartDataset
from stgraph.errors import InputError, TrainingError
from stgraph.graph.build import build_graph
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.training.loop import Trainer
from stgraph.training.supervised import JudgedTrainer


@pytest.fixture
def dataset(tissue):
    return PartDataset([build_graph(tissue)], CoordinateBisection(110))


class Judge:
    """Says what it was told to say, and notes the weights it saw."""

    def __init__(self, model, verdicts):
        self.model, self.verdicts, self.seen = model, list(verdicts), []

    def __call__(self):
        assert not self.model.training
        self.seen.append(copy.deepcopy(self.model.state_dict()))
        return self.verdicts[len(self.seen) - 1]


def train(dataset, verdicts, patience=10, **settings):
    torch.manual_seed(0)
    model = SE2Transformer(20, hidden_channels=16)
    judge = None if verdicts is None else Judge(model, verdicts)
    trainer = JudgedTrainer(Trainer(**settings), patience)
    run = trainer.fit(model, dataset, WeightedSum([MaskedCell()]), judge=judge)
    return model, judge, run


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in second)


def test_the_best_epoch_is_restored(dataset):
    assert len(dataset) == 3
    model, judge, run = train(dataset, [4.0, 3.0, 1.0, 2.0, 1.0, 5.0], max_steps=14)
    # Before the first step, after each epoch, and after the last step; of equals the earliest is kept.
    assert run.judged == {0: 4.0, 3: 3.0, 6: 1.0, 9: 2.0, 12: 1.0, 14: 5.0}
    assert run.best_step == 6
    assert len(run.history) == 14
    assert same(model.state_dict(), judge.seen[2])
    assert not same(judge.seen[2], judge.seen[4])
    assert not model.training


def test_training_ends_when_nothing_is_gained(dataset):
    model, judge, run = train(dataset, [4.0, 3.0, 1.0, 2.0, 1.5, 0.0], patience=2, max_steps=15)
    assert list(run.judged) == [0, 3, 6, 9, 12]
    assert len(run.history) == 12
    assert same(model.state_dict(), judge.seen[2])
    assert not model.training


def test_what_training_makes_worse_stays_as_it_was(dataset):
    model, judge, run = train(dataset, [1.0, 2.0, 2.0], max_steps=6)
    assert run.best_step == 0
    assert same(model.state_dict(), judge.seen[0])


def test_an_epoch_is_counted_in_batches(dataset):
    _, _, run = train(dataset, [1.0, 2.0, 3.0, 4.0], max_steps=6, batch_size=2)
    assert list(run.judged) == [0, 2, 4, 6]


def test_judging_does_not_change_training(dataset):
    judged, _, _ = train(dataset, [9.0, 8.0, 7.0], max_steps=6)
    alone, _, run = train(dataset, None, max_steps=6)
    assert same(judged.state_dict(), alone.state_dict())
    assert run.judged == {}
    assert run.best_step == 6
    assert not alone.training


@pytest.mark.parametrize("verdict", [math.nan, math.inf])
def test_a_verdict_that_is_not_finite_stops_with_advice(dataset, verdict):
    with pytest.raises(TrainingError, match=r"validation loss is (nan|inf) after step 3: try a smaller trainer\.lr"):
        train(dataset, [1.0, verdict], max_steps=6)


def test_senseless_input(dataset):
    with pytest.raises(InputError, match="patience of at least 1"):
        JudgedTrainer(Trainer(), patience=0)
    with pytest.raises(InputError, match="no part to train on"):
        train([], None, max_steps=2)
