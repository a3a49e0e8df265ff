import math
from dataclasses import replace

import pytest
import torch

from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError
from stgraph.models.cell_network import CellStates
from stgraph.models.value_encoder import ValueEncoder
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.contrastive import DropoutPairs
from stgraph.objectives.genes_from_cell import GenesFromCell
from stgraph.objectives.masked_gene import MaskedGene
from stgraph.objectives.masked_value import MaskedValue
from stgraph.testing.cell_objectives import CellObjectiveContract, planted_cells, small_network


class TestContract(CellObjectiveContract):
    make = staticmethod(GenesFromCell)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_cell(batch):
    return [batch.tokens[begin:end].tolist() for begin, end in zip(batch.offsets, batch.offsets[1:], strict=False)]


def missing(batch, row):
    at, truth = batch.removed_genes
    return truth[at == row].tolist()


def test_what_is_left_is_in_order_and_with_its_values():
    cells = planted_cells(30)
    spoilt = GenesFromCell(0.4).corrupt(cells, generator())
    assert len(spoilt.removed_genes.at) == round(0.4 * 30 * 5) == GenesFromCell().count(spoilt)
    for row, (before, after) in enumerate(zip(by_cell(cells), by_cell(spoilt), strict=True)):
        gone = missing(spoilt, row)
        assert after == [token for token in before if token not in gone]
        assert after[0] == 31
        assert len(after) + len(gone) == len(before)
    assert torch.equal(spoilt.values, spoilt.tokens % 7 / 2.0)
    assert torch.equal(spoilt.cell, cells.cell)
    assert torch.equal(spoilt.partner, cells.partner)


def test_what_was_removed_cannot_be_seen():
    """Cells that differ in the removed genes alone, wherever these stood, are the same to the model."""
    model = small_network().eval()
    one = CellBatch(torch.tensor([31, 2, 3, 4, 5]), torch.tensor([0, 5]), torch.tensor([0]))
    spoilt = GenesFromCell().corrupt(one, generator())
    for others in ([20, 21], [21, 20]):
        gone = iter(others)
        swapped = one.tokens.clone()
        swapped[torch.isin(one.tokens, spoilt.removed_genes.truth)] = torch.tensor([next(gone), next(gone)])
        again = GenesFromCell().corrupt(replace(one, tokens=swapped), generator())
        assert again.removed_genes.truth.tolist() == others
        assert torch.equal(model(again).cell, model(spoilt).cell)
    moved = replace(one, tokens=one.tokens[[0, 4, 3, 2, 1]])
    assert not torch.equal(model(moved).cell, model(one).cell)  # order is seen, of what is shown


class Oracle:
    """Says the same of every cell."""

    training = True

    def __init__(self, logits):
        self.logits = logits

    def predict_genes_of(self, cells):
        return self.logits.expand(len(cells), -1)


def test_loss_by_brute_force():
    cells = planted_cells(12)
    logits = torch.randn(32, generator=generator(1))
    objective = GenesFromCell(0.6)
    spoilt = objective.corrupt(cells, generator())
    losses = []
    for row, shown in enumerate(by_cell(spoilt)):
        open_ = [gene for gene in range(2, 31) if gene not in shown]
        total = sum(math.exp(logits[gene]) for gene in open_)
        losses += [math.log(total) - float(logits[gene]) for gene in missing(spoilt, row)]
    found = objective.loss(Oracle(logits), CellStates(None, torch.zeros(12, 4)), spoilt)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_gene_that_is_still_shown_is_not_asked_for():
    """As of two mouse genes with one human ortholog, where both give its token."""
    cells = CellBatch(torch.tensor([31, 2, 2, 2, 2]), torch.tensor([0, 5]), torch.tensor([0]))
    spoilt = GenesFromCell().corrupt(cells, generator())
    assert spoilt.num_tokens == 3
    assert GenesFromCell().count(spoilt) == 0
    assert len(GenesFromCell(0.99).corrupt(cells, generator()).removed_genes.at) == 4


def test_a_cell_that_shows_everything_spoils_no_gradient():
    everything = torch.tensor([31, *range(2, 31)])
    cells = CellBatch(torch.cat([everything, torch.tensor([31, 2])]), torch.tensor([0, 30, 32]), torch.arange(2))
    model, objective = small_network(), GenesFromCell(0.01)
    for seed in range(40):
        spoilt = objective.corrupt(cells, generator(seed))
        objective.loss(model, model(spoilt), spoilt).backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_two_views_lack_different_genes_after_and_the_same_before_doubling():
    cells = planted_cells(20)
    after = WeightedSum([DropoutPairs(), GenesFromCell()]).corrupt(cells, generator())
    before = WeightedSum([GenesFromCell(), DropoutPairs()]).corrupt(cells, generator())
    assert [missing(before, row) for row in range(20)] == [missing(before, 20 + row) for row in range(20)]
    assert [missing(after, row) for row in range(20)] != [missing(after, 20 + row) for row in range(20)]
    for spoilt in (after, before):
        assert spoilt.num_cells == 40
        for row, shown in enumerate(by_cell(spoilt)):
            assert sorted(shown + missing(spoilt, row)) == sorted(by_cell(cells)[row % 20])


def test_it_comes_before_what_knows_tokens_by_their_place():
    cells = planted_cells(6)
    for other in (MaskedGene(), MaskedValue()):
        with pytest.raises(InputError, match="put it before MaskedGene"):
            GenesFromCell().corrupt(other.corrupt(cells, generator()), generator())
        other.corrupt(GenesFromCell().corrupt(cells, generator()), generator())
    with pytest.raises(InputError, match="No genes of this batch were removed"):
        GenesFromCell().count(cells)


def test_what_masks_genes_afterwards_changes_nothing():
    """A gene that is exchanged for a removed one, or masked, is known to be in the cell as before."""
    cells, objective = planted_cells(30), GenesFromCell()
    logits = torch.randn(32, generator=generator(1))
    alone = objective.corrupt(cells, generator())
    both = MaskedGene(0.9, mask_share=0.5, other_share=0.5).corrupt(alone, generator())
    losses = [objective.loss(Oracle(logits), CellStates(None, torch.zeros(30, 4)), each) for each in (alone, both)]
    assert torch.isfinite(losses[0])
    assert torch.equal(*losses)


def test_it_trains_the_embedding_which_masked_genes_do_not():
    cells = planted_cells(20)

    def gradient(objective):
        model = small_network()
        WeightedSum([objective])(model, cells, generator())["loss"].backward()
        return model.cell_proj.weight.grad

    assert gradient(MaskedGene()) is None
    assert gradient(GenesFromCell()).abs().sum() > 0


def test_of_planted_kinds_the_right_genes_are_told():
    """Some of six genes of a kind are shown: those of another kind are told to be unlikely."""
    torch.manual_seed(0)
    model = ValueEncoder(32, 8, 16, num_layers=1, heads=2, dropout=0.0, attention_dropout=0.0)
    objective, cells = WeightedSum([GenesFromCell()]), planted_cells(60)
    model.fit_values(cells.values)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(90):
        loss = objective(model, cells, generator(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.7 * math.log(18)  # genes of all kinds


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_bad_arguments(rate):
    with pytest.raises(InputError, match="hide_rate between 0 and 1"):
        GenesFromCell(rate)
