import pytest
import torch

from stgraph.data.convert import to_hetero_data
from stgraph.graph.build import build_graph
from stgraph.models.base import ModelOutput
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.testing.objectives import ObjectiveContract


class TestContract(ObjectiveContract):
    make = staticmethod(MaskedCell)


class Oracle:
    """Predicts whatever state it is given."""

    def predict_cells(self, states):
        return states


def test_loss_counts_masked_cells_only(tissue):
    data = to_hetero_data(build_graph(tissue))
    objective = MaskedCell(mask_rate=0.25)
    batch = objective.corrupt(data, torch.Generator().manual_seed(0))
    masked = batch["cell"].masked
    assert int(masked.sum()) == round(0.25 * tissue.n_obs)
    states = data["cell"].x.clone()
    states[~masked] = 1e6
    assert objective.loss(Oracle(), ModelOutput(None, states, None, None), batch) == 0
    states[masked] += 2.0
    assert objective.loss(Oracle(), ModelOutput(None, states, None, None), batch) == pytest.approx(4.0)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_senseless_rate(rate):
    with pytest.raises(ValueError, match="mask_rate"):
        MaskedCell(mask_rate=rate)
