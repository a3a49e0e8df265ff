import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph.models.center_decoder import CenterDecoder, CenterGenes, absent_genes, spread_sample


def genes(*pairs):
    return CenterGenes(*torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T)


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    decoder = CenterDecoder(6, 8, heads=2, ffn_channels=12)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return decoder


@pytest.fixture
def kinds():
    seen, hidden, absent = genes((0, 3), (0, 7), (1, 2)), genes((1, 5), (0, 1), (1, 3)), genes((0, 4), (1, 9))
    torch.manual_seed(1)
    return [torch.randn(n, 6) for n in (3, 3, 2)], [seen, hidden, absent]


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_is_attention_over_all_genes_of_a_centre(kinds, num_layers):
    """The last layer computes hidden genes only, in any order: one that computes all says the same."""
    torch.manual_seed(0)
    decoder = CenterDecoder(6, 8, heads=2, ffn_channels=12, num_layers=num_layers)
    states, of = kinds
    found = decoder(*states, *of, num_cells=3)
    everything = CenterGenes(torch.cat([each.row for each in of]), torch.cat([each.gene for each in of]))
    nothing = (torch.zeros(0, 6), genes())
    all_asked = decoder(nothing[0], torch.cat(states), nothing[0], nothing[1], everything, nothing[1], num_cells=3)
    torch.testing.assert_close(found, all_asked[3:6], rtol=0, atol=1e-5)


def test_centres_are_apart(decoder, kinds):
    states, of = kinds
    found = decoder(*states, *of, num_cells=2)
    alone = [CenterGenes(each.row[each.row == 1] - 1, each.gene[each.row == 1]) for each in of]
    kept = [state[each.row == 1] for state, each in zip(states, of, strict=True)]
    torch.testing.assert_close(found[[0, 2]], decoder(*kept, *alone, num_cells=1), rtol=0, atol=1e-5)


def test_which_gene_it_is_matters(decoder, kinds):
    states, (seen, hidden, absent) = kinds
    found = decoder(*states, seen, hidden, absent, num_cells=2)
    other = decoder(*states, seen, hidden._replace(gene=hidden.gene + 1), absent, num_cells=2)
    assert not torch.allclose(found, other, atol=1e-3)


def test_absent_genes():
    seen, hidden = genes((0, 1), (0, 9), (1, 4)), genes((0, 2), (2, 6))
    found = absent_genes(seen, hidden, torch.tensor([0, 1, 1]), (torch.tensor([1, 2, 3, 5]), torch.tensor([4, 6])), 8)
    assert torch.stack(list(found), 1).tolist() == [[0, 3], [0, 5], [1, 6], [2, 4]]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(0, 6), st.booleans())
def test_a_sample_is_as_large_as_it_can_be(counts, most, shifted):
    row = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    gene = torch.arange(len(row))
    found = spread_sample(CenterGenes(row, gene), most, len(counts), shifted=shifted)
    assert torch.bincount(found.row, minlength=len(counts)).tolist() == [min(n, most) for n in counts]
    assert torch.equal(row[found.gene], found.row)
    assert bool((found.gene.diff() > 0).all())


def test_every_gene_has_its_turn():
    torch.manual_seed(0)
    all_genes = CenterGenes(torch.zeros(10, dtype=torch.int64), torch.arange(10))
    drawn = [spread_sample(all_genes, 2, 1, shifted=True).gene for _ in range(60)]
    assert torch.cat(drawn).unique().tolist() == list(range(10))
    assert all(int(pair.diff()) == 5 for pair in drawn)
