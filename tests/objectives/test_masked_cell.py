from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from torch_geometric.data import Batch

from stgraph.data.convert import to_hetero_data
from stgraph.data.parts import PartDataset
from stgraph.errors import InputError
from stgraph.graph.build import assemble, build_graph
from stgraph.graph.builders import KNN
from stgraph.graph.hierarchy import Hierarchical
from stgraph.graph.virtual_cells import JointLeiden, aggregate
from stgraph.models.base import ModelOutput
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
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


@pytest.mark.parametrize("builder", [JointLeiden(), Hierarchical(JointLeiden())])
def test_virtual_cells_need_not_hold_the_answer(slices, builder):
    """They are means over the others then, on every level, of the whole slice even where a part has some members."""
    graphs = [build_graph(adata, virtual_cells=builder) for adata in slices]
    parts = PartDataset(graphs, CoordinateBisection(110), num_hops=1)
    batch = Batch.from_data_list([parts[0], parts[len(parts) - 1]])
    objective = MaskedCell(mask_rate=0.5, hide_from_virtual=True)
    hidden = objective.corrupt(batch, torch.Generator().manual_seed(0))
    masked = hidden["cell"].masked
    plain = MaskedCell(mask_rate=0.5).corrupt(batch, torch.Generator().manual_seed(0))
    assert torch.equal(plain["cell"].masked, masked)
    assert plain["virtual"].x is batch["virtual"].x
    for number, graph in enumerate((graphs[0], graphs[-1])):
        rows = batch["cell"].index[(batch["cell"].batch == number) & masked].numpy()
        shown = np.setdiff1d(np.arange(len(graph)), rows)
        level, of = graph.virtual, graph.virtual.membership
        for name in ("virtual", "virtual2"):
            if level is None:
                continue
            got = hidden[name].x[hidden[name].batch == number]
            for virtual in range(len(level)):
                others = graph.x[shown[of[shown] == virtual]]
                expected = others.mean(axis=0) if len(others) else np.zeros(graph.x.shape[1])
                np.testing.assert_allclose(got[virtual], expected, rtol=1e-4, atol=1e-4)
            level, of = level.parent, None if level.parent is None else level.parent.membership[of]


def test_a_linear_reader_of_virtual_cells_finds_a_masked_cell_only_where_it_is_held():
    """A virtual cell of three, two of them shown: three times the mean less the two is the third."""
    pos = np.random.default_rng(0).random((30, 2)) * 50
    x = np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)
    graph = assemble("s", x, pos, KNN(3)(pos), unit="um", virtual_cells=None)
    graph = replace(graph, virtual=aggregate(np.arange(30) // 3, x, pos))
    data = to_hetero_data(graph)
    for hide, least, most in ((False, 0.0, 1e-5), (True, 0.5, 9.0)):
        batch = MaskedCell(mask_rate=0.03, hide_from_virtual=hide).corrupt(data, torch.Generator().manual_seed(0))
        row = int(batch["cell"].masked.nonzero())
        friends = [other for other in range(30) if other // 3 == row // 3 and other != row]
        guess = 3 * batch["virtual"].x[row // 3] - batch["cell"].x[friends].sum(dim=0)
        assert least <= float((guess - batch["cell"].x[row]).abs().max()) < most


def test_no_virtual_cells_are_no_error(tissue):
    data = to_hetero_data(build_graph(tissue, virtual_cells=None))
    MaskedCell(hide_from_virtual=True).corrupt(data, torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="hide_from_virtual is true or false"):
        MaskedCell(hide_from_virtual="yes")


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
