import pytest
import torch

from stgraph.data.choice import choose_cells


@pytest.mark.parametrize(("rate", "count"), [(0.5, 5), (0.001, 1), (0.99, 10)])
def test_choose_cells(rate, count):
    owned = torch.arange(30) % 3 == 0
    chosen = choose_cells(owned, rate, torch.Generator().manual_seed(0))
    assert int(chosen.sum()) == count
    assert not chosen[~owned].any()


def test_a_part_that_owns_nothing():
    assert not choose_cells(torch.zeros(4, dtype=torch.bool), 0.5, torch.Generator()).any()
