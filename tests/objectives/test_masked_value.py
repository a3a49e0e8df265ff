from dataclasses import replace

import pytest
import torch

from stgraph.errors import InputError
from stgraph.models.cell_network import CellStates
from stgraph.models.value_encoder import ValueEncoder
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.masked_value import MaskedValue, ValueFromCell
from stgraph.testing.cell_objectives import CellObjectiveContract, planted_cells


def small_network():
    torch.manual_seed(0)
    return ValueEncoder(32, 16, 16, num_layers=1, heads=2).fit_values(torch.linspace(0, 20, 50))


class ValueContract(CellObjectiveContract):
    @pytest.fixture
    def model(self, batch):
        return small_network()

    def test_nothing_to_judge(self, model):
        pytest.skip("below, for a batch with values")


class TestMaskedValue(ValueContract):
    make = staticmethod(MaskedValue)


class TestValueFromCell(ValueContract):
    make = staticmethod(ValueFromCell)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_what_is_hidden():
    cells = planted_cells(60)
    spoilt = MaskedValue(mask_rate=0.2).corrupt(cells, generator())
    at, truth = spoilt.hidden_values
    assert len(at) == 60 == MaskedValue().count(spoilt)  # of 60 x 5
    assert spoilt.values.isnan().nonzero()[:, 0].tolist() == at.tolist()
    assert not spoilt.values[spoilt.offsets[:-1]].isnan().any()
    assert torch.equal(truth, cells.values[at].log1p())
    assert torch.equal(spoilt.tokens, cells.tokens)
    shown = ~spoilt.values.isnan()
    assert torch.equal(spoilt.values[shown], cells.values[shown])


def test_both_objectives_hide_the_same():
    spoilt = WeightedSum([MaskedValue(), ValueFromCell()]).corrupt(planted_cells(9), generator())
    alone = MaskedValue().corrupt(planted_cells(9), generator())
    assert torch.equal(spoilt.hidden_values.at, alone.hidden_values.at)


@pytest.mark.parametrize("objective", [MaskedValue(), ValueFromCell()])
def test_a_hidden_value_reaches_no_prediction(objective):
    cells, model = planted_cells(9), small_network().eval()
    spoilt = objective.corrupt(cells, generator())
    changed = cells.values.index_fill(0, spoilt.hidden_values.at, 77.0)
    again = objective.corrupt(replace(cells, values=changed), generator())
    for first, second in zip(model(spoilt), model(again), strict=True):
        assert torch.equal(first, second)


def test_losses_are_means_over_hidden_values():
    spoilt = MaskedValue().corrupt(planted_cells(9), generator())
    at, truth = spoilt.hidden_values

    class Oracle:
        def predict_values(self, states):
            return states[:, 0]

        def predict_values_of(self, cells, genes):
            return cells[:, 0] + genes

    token = torch.full((len(spoilt.tokens), 1), float("nan"))
    token[at, 0] = truth + 2.0
    assert float(MaskedValue().loss(Oracle(), CellStates(token, None), spoilt)) == pytest.approx(4.0)
    rows = torch.searchsorted(spoilt.offsets, at, right=True) - 1
    cell = torch.arange(9.0)[:, None]
    expected = ((rows + spoilt.tokens[at] - truth) ** 2).mean()
    assert float(ValueFromCell().loss(Oracle(), CellStates(None, cell), spoilt)) == pytest.approx(float(expected))


@pytest.mark.parametrize("objective", [MaskedValue(mask_rate=0.3), ValueFromCell(mask_rate=0.3)])
def test_a_planted_rule_is_learnt(objective):
    """All genes of a cell have one value, its own: what is hidden is what the others show."""

    def cells(seed):
        batch = planted_cells(24, seed=seed)
        own = torch.rand(24, generator=generator(seed)) * 20
        values = own[batch.row_of_token]
        values[batch.offsets[:-1]] = 0.0
        return replace(batch, values=values)

    model = small_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(70):
        loss = WeightedSum([objective])(model, cells(step), generator(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = WeightedSum([objective])(model.eval(), cells(1000), generator())["loss"]
    spread = cells(1000).values[cells(1000).values > 0].log1p().var()
    assert float(new.detach()) < 0.6 * float(spread)


@pytest.mark.parametrize("objective", [MaskedValue(), ValueFromCell()])
def test_nothing_to_judge(objective):
    alone = planted_cells(1)
    alone = replace(alone, tokens=torch.zeros_like(alone.tokens))  # padding only
    spoilt, model = objective.corrupt(alone, generator()), small_network()
    loss = objective.loss(model, model(spoilt), spoilt)
    loss.backward()
    assert float(objective.count(spoilt)) == float(loss.detach()) == 0.0


def test_batches_without_values_and_unspoilt_ones():
    with pytest.raises(InputError, match="MaskedValue hides values, and the batch has none"):
        MaskedValue().corrupt(replace(planted_cells(3), values=None), generator())
    with pytest.raises(InputError, match="No values of this batch were hidden"):
        MaskedValue().count(planted_cells(3))
    with pytest.raises(InputError, match="ValueFromCell needs a mask_rate between 0 and 1, not 1"):
        ValueFromCell(mask_rate=1)
