import pytest
import torch

from stgraph.data.convert import to_hetero_data
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell


def test_sum_is_weighted_and_terms_are_not(tissue):
    data = to_hetero_data(build_graph(tissue))
    torch.manual_seed(0)
    model = SE2Transformer(data["cell"].x.shape[1])
    objective = WeightedSum([MaskedCell(weight=2.0), DistanceRecovery(weight=0.5)])
    losses = objective(model, data, torch.Generator().manual_seed(0))
    assert set(losses) == {"loss", "masked_cell", "distance_recovery"}
    torch.testing.assert_close(losses["loss"], 2 * losses["masked_cell"] + 0.5 * losses["distance_recovery"])


def test_a_call_is_its_three_steps(tissue):
    data = to_hetero_data(build_graph(tissue))
    torch.manual_seed(0)
    model = SE2Transformer(data["cell"].x.shape[1])
    objective = WeightedSum([MaskedCell(), DistanceRecovery()])
    whole = objective(model, data, torch.Generator().manual_seed(0))
    batch = objective.corrupt(data, torch.Generator().manual_seed(0))
    counts = objective.counts(batch)
    assert set(counts) == {"masked_cell", "distance_recovery"}
    assert float(counts["masked_cell"]) == 96
    losses = objective.losses(model, batch)
    assert all(torch.equal(losses[name], whole[name]) for name in whole)
    parts = objective.losses(model, batch, {"masked_cell": 0.25, "distance_recovery": torch.tensor(0.5)})
    torch.testing.assert_close(parts["masked_cell"], 0.25 * whole["masked_cell"])
    torch.testing.assert_close(parts["distance_recovery"], 0.5 * whole["distance_recovery"])
    expected = 0.25 * whole["masked_cell"] + 0.05 * 0.5 * whole["distance_recovery"]
    torch.testing.assert_close(parts["loss"], expected)


def test_names_must_differ():
    with pytest.raises(ValueError, match="distinct names"):
        WeightedSum([MaskedCell(), MaskedCell()])
    with pytest.raises(InputError, match="at least one"):
        WeightedSum([])
