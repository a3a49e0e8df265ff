import math
from dataclasses import replace

import pytest
import torch

from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError
from stgraph.models.cell_network import CellStates
from stgraph.models.rank_encoder import RankEncoder
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.masked_gene import MaskedGene
from stgraph.testing.cell_objectives import CellObjectiveContract, planted_cells, small_network


class TestContract(CellObjectiveContract):
    make = staticmethod(MaskedGene)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def many_cells(num_cells=400, length=21, seed=0):
    tokens = torch.randint(2, 90, (num_cells, length), generator=generator(seed))
    tokens[:, 0] = 99
    tokens[:, 3] = 0  # padding, which is not there as a rule, is no gene
    return CellBatch(tokens.flatten(), torch.arange(num_cells + 1) * length, torch.arange(num_cells))


def test_share_of_genes_hidden_and_what_stands_for_them():
    cells = many_cells()
    spoilt = MaskedGene().corrupt(cells, generator())
    at, truth = spoilt.hidden_genes
    num_genes = 400 * 19
    assert len(at) == round(0.15 * num_genes) == MaskedGene().count(spoilt)
    assert torch.equal(truth, cells.tokens[at])
    assert truth.min() >= 2
    assert truth.max() < 90
    shown = spoilt.tokens[at]
    assert float((shown == 1).float().mean()) == pytest.approx(0.8, abs=0.04)
    assert float((shown == truth).float().mean()) == pytest.approx(0.1 + 0.1 / 88, abs=0.03)
    others = shown[(shown != 1) & (shown != truth)]
    assert set(others.tolist()) <= set(range(2, 90))  # genes of the batch, no class token
    assert len(set(others.tolist())) > 50
    elsewhere = torch.ones(len(cells.tokens), dtype=torch.bool)
    elsewhere[at] = False
    assert torch.equal(spoilt.tokens[elsewhere], cells.tokens[elsewhere])


def test_the_class_token_is_known_by_its_place():
    """A cell that begins with a gene as class token is read by that place, so it stays."""
    cells = replace(many_cells(), tokens=torch.full((400 * 21,), 5))
    spoilt = MaskedGene(mask_rate=0.999, mask_share=1.0, other_share=0.0).corrupt(cells, generator())
    assert (spoilt.tokens[spoilt.offsets[:-1]] == 5).all()
    assert (spoilt.tokens == 1).sum() == round(0.999 * 400 * 20)


def test_a_hidden_gene_reaches_no_logit():
    """Had the hidden gene been another, the model would have said the same."""
    objective, model = MaskedGene(mask_share=1.0, other_share=0.0), small_network().eval()
    cells = planted_cells(12)
    spoilt = objective.corrupt(cells, generator())
    changed = cells.tokens.index_copy(0, spoilt.hidden_genes.at, (spoilt.hidden_genes.truth - 1).clamp(min=2))
    assert not torch.equal(changed, cells.tokens)
    again = objective.corrupt(replace(cells, tokens=changed), generator())
    assert torch.equal(spoilt.hidden_genes.at, again.hidden_genes.at)
    for first, second in zip(model(spoilt), model(again), strict=True):
        assert torch.equal(first, second)


def test_chance_at_initialisation_is_the_logarithm_of_the_vocabulary():
    model = RankEncoder(100, out_channels=16, hidden_channels=16, num_layers=1, heads=2).eval()
    loss = WeightedSum([MaskedGene()])(model, many_cells(), generator())["masked_gene"]
    assert float(loss.detach()) == pytest.approx(math.log(100), abs=0.15)  # logits are drawn, and not all alike


def test_a_planted_rule_is_learnt_and_holds_for_new_cells():
    """What is hidden is one of the six genes of the kind of the cell, which the others tell: log 6 = 1.79."""
    model, objective = small_network(), WeightedSum([MaskedGene(mask_share=1.0, other_share=0.0)])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(100):
        loss = objective(model, planted_cells(60, seed=step), generator(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = objective(model.eval(), planted_cells(60, seed=1000), generator())["loss"]
    assert float(new.detach()) < 1.9  # without the kind, log 18 = 2.89


def test_the_loss_is_the_mean_over_hidden_genes():
    cells = planted_cells(9)
    spoilt = MaskedGene().corrupt(cells, generator())

    class Oracle:
        def predict_genes(self, states):
            return states

    right = torch.nn.functional.one_hot(cells.tokens, 32).float() * 50
    states = torch.full_like(right, float("nan"))
    states[spoilt.hidden_genes.at] = right[spoilt.hidden_genes.at]
    assert MaskedGene().loss(Oracle(), CellStates(states, None), spoilt) < 1e-6
    states[spoilt.hidden_genes.at[0]] = 0.0
    expected = math.log(32) / len(spoilt.hidden_genes.at)
    assert float(MaskedGene().loss(Oracle(), CellStates(states, None), spoilt)) == pytest.approx(expected)


def test_another_seed_hides_other_genes():
    cells = planted_cells(30)
    first, second = (MaskedGene().corrupt(cells, generator(seed)).hidden_genes.at for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask_rate": 0.0}, "mask_rate between 0 and 1, not 0.0"),
        ({"mask_share": 0.8, "other_share": 0.3}, "make at most 1"),
        ({"other_share": -0.1}, "shares of 0 or more"),
    ],
)
def test_senseless_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        MaskedGene(**arguments)


def test_a_batch_that_was_not_spoilt():
    with pytest.raises(InputError, match="No genes of this batch were hidden"):
        MaskedGene().count(planted_cells(3))
