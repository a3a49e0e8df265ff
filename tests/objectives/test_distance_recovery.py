import pytest
import torch

from stgraph.data.convert import NEAR, TO_CELL, to_hetero_data
from stgraph.graph.build import build_graph
from stgraph.models.base import ModelOutput
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.testing.objectives import ObjectiveContract


class TestContract(ObjectiveContract):
    make = staticmethod(DistanceRecovery)


@pytest.fixture
def pair(tissue):
    data = to_hetero_data(build_graph(tissue))
    return data, DistanceRecovery(move_rate=0.2, jitter=2.0).corrupt(data, torch.Generator().manual_seed(0))


def test_moved_cells_are_measured_anew_and_others_stay(pair):
    data, batch = pair
    moved = batch["cell"].moved
    assert int(moved.sum()) == round(0.2 * data["cell"].num_nodes)
    assert torch.equal((batch["cell"].pos != data["cell"].pos).any(dim=1), moved)
    for edge_type, touched in (
        (NEAR, lambda s, t: moved[s] | moved[t]),
        (TO_CELL, lambda s, t: moved[t]),
    ):
        source, target = data[edge_type].edge_index
        gap = (batch[edge_type[0]].pos[source] - batch[edge_type[2]].pos[target]).norm(dim=1)
        torch.testing.assert_close(batch[edge_type].edge_attr[:, 0], gap)
        still = ~touched(source, target)
        torch.testing.assert_close(
            batch[edge_type].edge_attr[still], data[edge_type].edge_attr[still], rtol=1e-4, atol=1e-3
        )


def test_the_move_has_the_size_it_should(pair):
    data, batch = pair
    step = (batch["cell"].pos - data["cell"].pos)[batch["cell"].moved] / data.spacing
    assert step.std() == pytest.approx(2.0, rel=0.25)


def test_loss_counts_edges_at_moved_cells_in_spacings(pair):
    data, batch = pair
    source, target = data[NEAR].edge_index
    judged = batch["cell"].moved[source] | batch["cell"].moved[target]
    truth = (data[NEAR].edge_attr / data.spacing).log1p()

    class Oracle:
        def predict_distances(self, state):
            return state[:, 0]

    wrong_elsewhere = torch.where(judged[:, None], truth, torch.tensor(1e6))
    objective = DistanceRecovery()
    assert objective.loss(Oracle(), ModelOutput(None, None, None, wrong_elsewhere), batch) == pytest.approx(
        0.0, abs=1e-9
    )
    assert objective.loss(Oracle(), ModelOutput(None, None, None, wrong_elsewhere + 3.0), batch) == pytest.approx(
        9.0, rel=1e-4
    )


@pytest.mark.parametrize("wrong", [{"move_rate": 0.0}, {"jitter": 0.0}])
def test_senseless_parameters(wrong):
    with pytest.raises(ValueError, match="DistanceRecovery"):
        DistanceRecovery(**wrong)
