import pytest
import torch

from stgraph.data.choice import choose_cells, choose_disjoint


@pytest.mark.parametrize(("rate", "count"), [(0.5, 5), (0.001, 1), (0.99, 10)])
def test_choose_cells(rate, count):
    owned = torch.arange(30) % 3 == 0
    chosen = choose_cells(owned, rate, torch.Generator().manual_seed(0))
    assert int(chosen.sum()) == count
    assert not chosen[~owned].any()


def test_a_part_that_owns_nothing():
    assert not choose_cells(torch.zeros(4, dtype=torch.bool), 0.5, torch.Generator()).any()


def test_several_shares_are_disjoint_and_the_first_is_the_same_alone():
    owned = torch.arange(300) % 3 == 0
    first, none, second = choose_disjoint(owned, (0.12, 0.0, 0.03), torch.Generator().manual_seed(0))
    assert (int(first.sum()), int(none.sum()), int(second.sum())) == (12, 0, 3)
    assert not (first & second).any()
    assert not ((first | second) & ~owned).any()
    assert torch.equal(first, choose_cells(owned, 0.12, torch.Generator().manual_seed(0)))


def test_more_shares_than_cells():
    one, other = choose_disjoint(torch.tensor([False, True]), (0.1, 0.1), torch.Generator())
    assert (int(one.sum()), int(other.sum())) == (1, 0)
