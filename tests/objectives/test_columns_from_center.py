import pytest
import torch

from stgraph._config import instantiate, to_config
from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.errors import InputError
from stgraph.models.neighborhood_network import NeighborhoodStates
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.columns_from_center import ColumnsFromCenter
from stgraph.objectives.masked_columns import MaskedColumns


def batch():
    """Twelve cells, each with the one before; all express genes 0 to 5 of 10, at values 1 to 6."""
    tokens = torch.tensor([0, 1, 2, 3, 4, 5, 10, 11]).repeat(12)
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0, 9.0]).repeat(12)
    cells = CellBatch(tokens, torch.arange(13) * 8, torch.arange(12), values)
    near = torch.stack([torch.arange(12), torch.arange(12).roll(1)], dim=1)
    return NeighborhoodBatch(cells, near, torch.ones(12, 2), torch.zeros(12, dtype=torch.int64), (torch.arange(10),))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Told(torch.nn.Module):
    """Says of a gene its number plus one, and so much more, from the centre; the other head says nothing."""

    def __init__(self, more=0.0):
        super().__init__()
        self.more = torch.nn.Parameter(torch.tensor(more))

    def forward(self, batch):
        return NeighborhoodStates(torch.zeros(0, 1), torch.zeros(batch.num_cells + 1), torch.zeros(batch.num_cells, 1))

    def predict_hidden(self, output, batch):
        return torch.zeros(len(batch.hidden.gene))

    def predict_from_center(self, output, batch):
        gene = batch.hidden.gene
        return torch.where(gene < 6, gene + 1.0, 0.0) + self.more


def test_the_error_is_that_of_what_the_centre_tells():
    objective = WeightedSum([MaskedColumns(0.5, 0.5), ColumnsFromCenter(weight=2.0)])
    spoilt = objective.corrupt(batch(), generator())
    truth = spoilt.hidden.truth
    losses = objective.losses(Told(0.5), spoilt)
    assert float(losses["columns_from_center"].detach()) == pytest.approx(0.25)
    assert float(losses["masked_columns"].detach()) == pytest.approx(float((truth**2).mean()))
    assert float(losses["loss"].detach()) == pytest.approx(float((truth**2).mean()) + 0.5)
    counts = objective.counts(spoilt)
    assert counts["columns_from_center"] == counts["masked_columns"] == len(truth) > 20


@pytest.mark.parametrize("shared", [False, True])
def test_whatever_the_order_the_columns_are_those_of_masked_columns(shared):
    columns = MaskedColumns(0.4, 0.1, shared=shared)
    expected = columns.corrupt(batch(), generator())
    for objectives in (
        [columns, ColumnsFromCenter()],
        [ColumnsFromCenter(), columns],
        [ColumnsFromCenter(columns)],
    ):
        spoilt = WeightedSum(objectives).corrupt(batch(), generator())
        assert (spoilt.packed is None) is shared
        assert torch.equal(spoilt.hidden.row, expected.hidden.row)
        assert torch.equal(spoilt.hidden.gene, expected.hidden.gene)
        assert torch.equal(spoilt.unique.tokens, expected.unique.tokens)


@pytest.mark.parametrize("turned", [False, True])
def test_columns_of_two_objectives_are_refused(turned):
    objectives = [MaskedColumns(0.3), ColumnsFromCenter(MaskedColumns(0.9))]
    with pytest.raises(InputError, match="give ColumnsFromCenter no columns beside MaskedColumns"):
        WeightedSum(objectives[::-1] if turned else objectives).corrupt(batch(), generator())


def test_nobody_hides():
    alone = WeightedSum([ColumnsFromCenter()])
    with pytest.raises(InputError, match="No genes of this batch were hidden: put MaskedColumns among the objectives"):
        alone(Told(), batch(), generator())
    with pytest.raises(InputError, match="No genes of this batch were hidden"):
        alone.counts(batch())


def test_nothing_hidden_is_zero_with_a_gradient():
    objective, model = ColumnsFromCenter(MaskedColumns(1e-9, 0.0)), Told(1.0)
    spoilt = objective.corrupt(batch(), generator())
    loss = objective.loss(model, model(spoilt), spoilt)
    loss.backward()
    assert float(loss.detach()) == float(objective.count(spoilt)) == float(model.more.grad) == 0.0


def test_a_network_without_the_head():
    objective, model = ColumnsFromCenter(MaskedColumns(0.5)), torch.nn.Linear(1, 1)
    spoilt = objective.corrupt(batch(), generator())
    with pytest.raises(InputError, match="Linear cannot tell genes from the embedding of a centre: put it into a Cent"):
        objective.loss(model, Told()(spoilt), spoilt)


def test_a_config_there_and_back():
    for objective in (ColumnsFromCenter(weight=0.5), ColumnsFromCenter(MaskedColumns(shared=True))):
        assert instantiate(to_config(objective)) == objective
