"""Training on cells, in batches that a sampler puts together."""

import itertools
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stgraph.data.cell_sequences import CellSequences
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.errors import InputError
from stgraph.models.rank_encoder import RankEncoder
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.contrastive import DropoutPairs
from stgraph.objectives.masked_gene import MaskedGene
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.training.batches import SampledBatches
from stgraph.training.loop import Trainer

CLASS_TOKEN, VOCABULARY = 12, 13


@pytest.fixture(scope="module")
def cells():
    """Two kinds of cells with genes of their own, so that a hidden gene can be told from the others."""
    rng = np.random.default_rng(0)
    sequences = []
    for cell in range(60):
        genes = rng.permutation(np.arange(2, 7) if cell % 2 else np.arange(7, 12))[: rng.integers(2, 6)]
        sequences.append(np.append(CLASS_TOKEN, genes))
    indptr = np.cumsum([0, *map(len, sequences)])
    return CellSequences([RaggedTokens(np.concatenate(sequences).astype(np.int32), indptr)])


def batches(cells, random_state=0):
    return SampledBatches(cells, TokenBudgetSampler(cells, max_tokens=70, random_state=random_state))


def train(data, *objectives, dropout=0.1, on_step=None, resume=None, **settings):
    torch.manual_seed(0)
    model = RankEncoder(VOCABULARY, 8, hidden_channels=16, num_layers=1, heads=2, ffn_channels=16, dropout=dropout)
    trainer = Trainer(**{"max_steps": 7, "warmup_steps": 0, "lr": 0.02} | settings)
    objective = WeightedSum(objectives or [MaskedGene(), DropoutPairs()])
    history = trainer.fit(model, data, objective, on_step=on_step, resume=resume)
    return [{k: v for k, v in record.items() if k != "cells_per_second"} for record in history], model.state_dict()


def same(one, other):
    return one[0] == other[0] and all(torch.equal(one[1][name], other[1][name]) for name in one[1])


@pytest.mark.parametrize("settings", [{}, {"accumulate": 3}, {"noise": "parts", "schedule": "linear"}])
def test_stopped_at_any_step(cells, tmp_path, settings):
    data = batches(cells)
    assert 3 <= len(data.epoch(1)) <= 6
    whole = train(data, **settings)
    for step in (1, 3, 6):
        with pytest.raises(SystemExit):
            train(
                batches(cells),
                resume=tmp_path / str(step),
                on_step=lambda record, at=step: record["step"] == at and os.kill(os.getpid(), signal.SIGTERM),
                **settings,
            )
        assert same(train(batches(cells), resume=tmp_path / str(step), **settings), whole)


def test_cells_are_learnt(cells):
    history, _ = train(batches(cells), MaskedGene(0.3), dropout=0.0, max_steps=90, accumulate=2, lr=0.005)
    losses = [record["loss"] for record in history]
    # Five genes of each kind: who knows the kind is as wrong as one who guesses among those that are left.
    assert np.mean(losses[:3]) > np.log(10)
    assert np.mean(losses[-5:]) < np.log(10) - 0.2


def test_another_order_is_another_run(cells, tmp_path):
    train(batches(cells), max_steps=1, resume=tmp_path)
    with pytest.raises(InputError, match="its batches hold something else or come in another order"):
        train(batches(cells, random_state=1), max_steps=1, resume=tmp_path)


def test_cells_in_two_views_count_once(cells, monkeypatch):
    monkeypatch.setattr("stgraph.training.steps.time", SimpleNamespace(perf_counter=itertools.count().__next__))
    records, data = [], batches(cells)
    train(data, max_steps=2, accumulate=2, on_step=records.append)
    assert [record["cells_per_second"] for record in records] == [
        sum(map(len, data.epoch(1)[first : first + 2])) for first in (0, 2)
    ]


def test_steps_in_cells(cells):
    data = batches(cells)
    assert Trainer(accumulate=2).steps_in(data) == -(-len(data.epoch(1)) // 2)
