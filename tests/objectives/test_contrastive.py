import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError
from stgraph.models.cell_network import CellStates
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.contrastive import DropoutPairs, NeighborPairs
from stgraph.objectives.masked_gene import MaskedGene
from stgraph.testing.cell_objectives import CellObjectiveContract, planted_cells, small_network


class TestDropoutPairs(CellObjectiveContract):
    make = staticmethod(DropoutPairs)


class TestNeighborPairs(CellObjectiveContract):
    make = staticmethod(lambda: NeighborPairs(weight=1.0))


class TestAllTogether(CellObjectiveContract):
    """Not one objective, but one after another: what doubles the batch goes with what hides genes and with pairs."""

    make = staticmethod(lambda: _Chain([NeighborPairs(), DropoutPairs(), MaskedGene()]))


class _Chain:
    name, weight = "chain", 1.0

    def __init__(self, objectives):
        self.objectives = objectives

    def corrupt(self, batch, generator):
        for objective in self.objectives:
            batch = objective.corrupt(batch, generator)
        return batch

    def count(self, batch):
        return sum(objective.count(batch) for objective in self.objectives)

    def loss(self, model, output, batch):
        return sum(objective.loss(model, output, batch) for objective in self.objectives)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def states(*rows):
    return CellStates(None, torch.tensor(rows))


def cells(n, partner=None):
    partner = None if partner is None else torch.tensor(partner).reshape(-1, 2)
    return CellBatch(torch.ones(n, dtype=torch.int64), torch.arange(n + 1), torch.arange(n), partner=partner)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_dropout_pairs_against_a_loop(temperature):
    objective = DropoutPairs(temperature)
    batch = objective.corrupt(cells(4), generator())
    z = torch.randn(8, 3, generator=generator())
    unit = F.normalize(z, dim=1)
    expected = []
    for i in range(8):
        similar = unit @ unit[i] / temperature
        rest = [j for j in range(8) if j != i]
        expected.append(similar[rest].logsumexp(0) - similar[(i + 4) % 8])
    loss = objective.loss(None, CellStates(None, z), batch)
    assert float(loss) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)
    assert objective.count(batch) == 8


def test_neighbor_pairs_against_a_loop():
    partner = [(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)]
    batch = cells(6, partner)
    z = torch.randn(6, 3, generator=generator())
    unit = F.normalize(z, dim=1)
    expected = []
    for i, j in partner:
        similar = unit @ unit[i] / 0.1
        rest = [k for k in range(6) if k not in (i, j) and (i, k) not in partner]
        expected.append(similar[[j, *rest]].logsumexp(0) - similar[j])
    loss = NeighborPairs().loss(None, CellStates(None, z), batch)
    assert float(loss) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)
    assert NeighborPairs().count(batch) == 6


def test_other_neighbours_and_other_views_are_no_counterexamples():
    """Cells 0, 1, 2 are neighbours of each other; wherever they are, only cell 3 is told from them."""
    triangle = [(i, j) for i in range(3) for j in range(3) if i != j]
    batch = cells(4, triangle).doubled()
    together = torch.tensor([[1.0, 0.0]] * 3 + [[-1.0, 0.0]]).repeat(2, 1)
    loss = NeighborPairs(temperature=0.1).loss(None, CellStates(None, together), batch)
    assert float(loss) == pytest.approx(math.log1p(2 * math.exp(-20)), abs=1e-6)
    assert NeighborPairs().count(batch) == 12


def test_chance_where_nothing_tells_cells_apart():
    z = torch.ones(20, 4)
    batch = DropoutPairs().corrupt(cells(10), generator())
    assert float(DropoutPairs().loss(None, CellStates(None, z), batch)) == pytest.approx(math.log(19), rel=1e-5)


def test_perfect_views_have_no_loss():
    batch = DropoutPairs().corrupt(cells(4), generator())
    z = torch.eye(4).repeat(2, 1)
    assert DropoutPairs().loss(None, CellStates(None, z), batch) < 1e-6


def test_neighbours_of_one_kind_teach_the_kinds():
    model = small_network()
    objective = WeightedSum([NeighborPairs(temperature=0.1, weight=1.0)])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(80):
        loss = objective(model, planted_cells(30, seed=step), generator(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = model.eval().embed(planted_cells(30, seed=1000)).detach()
    kind = torch.arange(30) // 10
    same = kind[:, None] == kind[None]
    # Neighbours are of a kind, so cells of new draws are sorted by kind.
    assert float((z @ z.T)[same].mean()) > float((z @ z.T)[~same].mean()) + 0.5


def test_objectives_share_one_pass_in_any_order():
    model = small_network()
    batch = planted_cells(9)
    for objectives in ([DropoutPairs(), MaskedGene()], [MaskedGene(), DropoutPairs()]):
        spoilt = WeightedSum(objectives).corrupt(batch, generator())
        assert spoilt.num_cells == 18
        at, truth = spoilt.hidden_genes
        assert torch.equal(batch.tokens.repeat(2)[at], truth)
        assert len(WeightedSum(objectives).losses(model, spoilt)) == 3
    before, after = (
        WeightedSum(o).corrupt(batch, generator()).tokens.view(2, -1) for o in (objectives, objectives[::-1])
    )
    assert torch.equal(before[0], before[1])  # hidden, then doubled
    assert not torch.equal(after[0], after[1])


def test_a_batch_is_doubled_once():
    batch = DropoutPairs().corrupt(cells(3), generator())
    assert DropoutPairs().corrupt(batch, generator()) is batch


def test_views_without_noise_are_refused_in_training():
    model = small_network(dropout=0.0)
    objective = WeightedSum([DropoutPairs()])
    with pytest.raises(InputError, match="give the model a dropout"):
        objective(model, planted_cells(6), generator())
    assert torch.isfinite(objective(model.eval(), planted_cells(6), generator())["loss"])


def test_batches_that_know_no_neighbours():
    batch = replace(planted_cells(6), partner=None)
    with pytest.raises(InputError, match="give CellSequences neighbors"):
        NeighborPairs().corrupt(batch, generator())


@pytest.mark.parametrize("objective", [DropoutPairs, NeighborPairs])
def test_senseless_temperature(objective):
    with pytest.raises(InputError, match=f"{objective.__name__} needs a positive temperature"):
        objective(temperature=0.0)
