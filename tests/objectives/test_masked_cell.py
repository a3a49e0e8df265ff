import pytest
import torch
from torch.nn.functional import normalize

from stgraph.data.convert import to_hetero_data
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.models.base import ModelOutput
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.testing.objectives import ObjectiveContract


class TestContract(ObjectiveContract):
    make = staticmethod(MaskedCell)


class TestContractOfThePublishedChoice(ObjectiveContract):
    @staticmethod
    def make():
        return MaskedCell(mask_rate=0.12, keep_rate=0.03, error="cosine")


class Oracle:
    """Predicts whatever state it is given."""

    def predict_cells(self, states):
        return states


@pytest.fixture
def data(tissue):
    return to_hetero_data(build_graph(tissue))


def test_loss_counts_masked_cells_only(data):
    objective = MaskedCell(mask_rate=0.25)
    batch = objective.corrupt(data, torch.Generator().manual_seed(0))
    masked = batch["cell"].masked
    assert int(masked.sum()) == int(objective.count(batch)) == round(0.25 * data["cell"].num_nodes)
    assert not batch["cell"].shown.any()
    states = data["cell"].x.clone()
    states[~masked] = 1e6
    assert objective.loss(Oracle(), ModelOutput(None, states, None, None), batch) == 0
    states[masked] += 2.0
    assert objective.loss(Oracle(), ModelOutput(None, states, None, None), batch) == pytest.approx(4.0)


def test_kept_cells_are_judged_and_not_hidden(data):
    objective = MaskedCell(mask_rate=0.12, keep_rate=0.03)
    batch = objective.corrupt(data, torch.Generator().manual_seed(0))
    masked, shown = batch["cell"].masked, batch["cell"].shown
    n = data["cell"].num_nodes
    assert (int(masked.sum()), int(shown.sum())) == (round(0.12 * n), round(0.03 * n))
    assert not (masked & shown).any()
    assert int(objective.count(batch)) == int(masked.sum() + shown.sum())
    states = data["cell"].x.clone()
    states[~(masked | shown)] = 1e6
    assert objective.loss(Oracle(), ModelOutput(None, states, None, None), batch) == 0
    states[shown] += 1.0
    share = float(shown.sum() / (masked | shown).sum())
    assert objective.loss(Oracle(), ModelOutput(None, states, None, None), batch) == pytest.approx(share)


def test_the_same_cells_are_masked_whether_or_not_others_are_kept(data):
    batches = [MaskedCell(keep_rate=rate).corrupt(data, torch.Generator().manual_seed(0)) for rate in (0.0, 0.1)]
    assert torch.equal(batches[0]["cell"].masked, batches[1]["cell"].masked)


def test_cosine_error_sees_directions_only(data):
    objective = MaskedCell(error="cosine")
    batch = objective.corrupt(data, torch.Generator().manual_seed(0))
    x = data["cell"].x

    def loss(states):
        return float(objective.loss(Oracle(), ModelOutput(None, states, None, None), batch))

    assert loss(7 * x) == pytest.approx(0.0, abs=1e-6)
    assert loss(-x) == pytest.approx(2.0)
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    masked = batch["cell"].masked
    squares = (normalize(other) - normalize(x))[masked].square().sum(dim=1).mean()
    assert loss(other) == pytest.approx(float(squares) / 2, rel=1e-5)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_senseless_rate(rate):
    with pytest.raises(ValueError, match="mask_rate"):
        MaskedCell(mask_rate=rate)


def test_senseless_choices():
    with pytest.raises(InputError, match="keep_rate"):
        MaskedCell(mask_rate=0.5, keep_rate=0.6)
    with pytest.raises(InputError, match="squared, cosine"):
        MaskedCell(error="absolute")
