import pytest
import torch

from stgraph.data.cell_batch import CellBatch, Hidden
from stgraph.errors import InputError


@pytest.fixture
def cells():
    return CellBatch(
        tokens=torch.tensor([9, 2, 3, 9, 4]),
        offsets=torch.tensor([0, 3, 5]),
        cell=torch.tensor([10, 11]),
        values=torch.tensor([0.0, 1.0, 2.0, 0.0, 3.0]),
        partner=torch.tensor([[0, 1], [1, 0]]),
        hidden_genes=Hidden(torch.tensor([1, 4]), torch.tensor([7, 8])),
    )


def test_doubled_is_two_views_of_each_cell(cells):
    twice = cells.doubled()
    assert twice.num_cells == 4
    assert twice.cell.tolist() == [10, 11, 10, 11]
    assert twice.offsets.tolist() == [0, 3, 5, 8, 10]
    assert twice.partner.tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    assert twice.hidden_values is None
    for s in range(4):
        own, first = slice(*twice.offsets[s : s + 2]), slice(*cells.offsets[s % 2 : s % 2 + 2])
        assert torch.equal(twice.tokens[own], cells.tokens[first])
        assert torch.equal(twice.values[own], cells.values[first])
    assert twice.hidden_genes.truth.tolist() == [7, 8, 7, 8]
    assert twice.tokens[twice.hidden_genes.at].tolist() == [2, 4, 2, 4]
    assert twice.row_of_token[twice.hidden_genes.at].tolist() == [0, 1, 2, 3]


def test_to_moves_everything(cells):
    moved = cells.to("meta")
    for tensor in (moved.tokens, moved.offsets, moved.cell, moved.values, moved.partner, *moved.hidden_genes):
        assert tensor.device.type == "meta"
    assert moved.hidden_values is None


def test_cells_of_one_token_each(cells):
    batch = CellBatch(torch.tensor([1, 1]), torch.tensor([0, 1, 2]), torch.tensor([0, 1]))
    assert batch.row_of_token.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("offsets", "values", "message"),
    [([0, 3], None, r"offsets \(S \+ 1,\), not \(5,\), \(2,\) and \(2,\)"), ([0, 3, 5], [1.0], r"5 tokens has values")],
)
def test_what_does_not_fit(offsets, values, message):
    with pytest.raises(InputError, match=message):
        CellBatch(
            torch.zeros(5, dtype=torch.int64),
            torch.tensor(offsets),
            torch.tensor([0, 1]),
            None if values is None else torch.tensor(values),
        )
