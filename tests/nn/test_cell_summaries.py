import pytest
import torch

from stgraph.nn.cell_summaries import CellSummaries


@pytest.fixture
def summaries():
    torch.manual_seed(0)
    return CellSummaries(8, heads=2, ffn_channels=16, num_summaries=3).eval()


def test_a_cell_has_the_same_summaries_in_any_company(summaries):
    states, weighted = torch.randn(7, 8), torch.randn(3, 8)
    together = summaries(states, weighted, ((1, 3), (2, 2)))
    for cell, (begin, end) in enumerate([(0, 3), (3, 5), (5, 7)]):
        alone = summaries(states[begin:end], weighted[[cell]], ((1, end - begin),))
        torch.testing.assert_close(together[[cell]], alone)


def test_the_order_of_genes_says_nothing(summaries):
    states, weighted = torch.randn(5, 8), torch.randn(1, 8)
    found, turned = (summaries(x, weighted, ((1, 5),)) for x in (states, states.flip(0)))
    torch.testing.assert_close(found, turned)


def test_genes_are_read_and_the_sum_is_where_it_begins(summaries):
    states, weighted = torch.randn(4, 8), torch.randn(2, 8)
    before = summaries(states, weighted, ((2, 2),))
    other_gene = summaries(states.index_add(0, torch.tensor([0]), torch.ones(1, 8)), weighted, ((2, 2),))
    other_sum = summaries(states, torch.stack([weighted[1], weighted[1]]), ((2, 2),))
    for other in (other_gene, other_sum):
        assert (other[0] - before[0]).abs().max() > 1e-3
        torch.testing.assert_close(other[1], before[1])


def test_summaries_of_a_cell_differ(summaries):
    found = summaries(torch.randn(4, 8), torch.randn(1, 8), ((1, 4),))[0]
    assert (found[0] - found[1]).abs().max() > 1e-3
    with torch.no_grad():  # by their queries, and by the part of the sum that each begins at
        summaries.queries.copy_(summaries.queries[:1].expand(3, 8))
        summaries.sum_proj.weight.copy_(summaries.sum_proj.weight[:8].repeat(3, 1))
        summaries.sum_proj.bias.copy_(summaries.sum_proj.bias[:8].repeat(3))
    same = summaries(torch.randn(4, 8), torch.randn(1, 8), ((1, 4),))[0]
    torch.testing.assert_close(same[0], same[1])


def test_a_cell_without_genes_has_finite_ones(summaries):
    found = summaries(torch.zeros(0, 8), torch.zeros(2, 8), ((2, 0),))
    assert found.shape == (2, 3, 8)
    assert torch.isfinite(found).all()
