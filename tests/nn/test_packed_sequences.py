import pytest
import torch

from stgraph.nn.packed_sequences import pool_sequences, positions_of


def test_positions():
    begin, lengths = torch.tensor([5, 0, 9, 2]), torch.tensor([3, 0, 1, 2])
    assert positions_of(begin, lengths).tolist() == [5, 6, 7, 9, 2, 3]
    assert positions_of(begin[:0], lengths[:0]).tolist() == []


@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("some", [False, True])
def test_pooling_one_by_one(pooling, some):
    torch.manual_seed(0)
    token, offsets = torch.randn(7, 4) - 5.0, torch.tensor([0, 3, 3, 5, 7])
    counts = torch.tensor([True, False, True, False, False, True, True]) if some else None
    found = pool_sequences(token, offsets, pooling, counts)
    for row in range(4):
        part = slice(*offsets[row : row + 2].tolist())
        own = token[part] if counts is None else token[part][counts[part]]
        expected = torch.zeros(4) if not len(own) else own.amax(0) if pooling == "max" else own.mean(0)
        torch.testing.assert_close(found[row], expected)


def test_half_precision_is_widened():
    assert pool_sequences(torch.ones(2, 1, dtype=torch.bfloat16), torch.tensor([0, 2]), "mean").dtype == torch.float32
