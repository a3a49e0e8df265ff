import pytest
import torch

from stgraph.nn.edge_attention.dropout import draw_seed, kept, threshold


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_as_many_as_asked_for_are_dropped(dropout):
    factors = kept(torch.tensor(12345), 50_000, 4, dropout)
    assert set(factors.unique().tolist()) == {0.0, float(torch.tensor(1 / (1 - dropout)))}
    assert abs((factors == 0).float().mean() - dropout) < 5e-3
    torch.testing.assert_close(factors.mean(dim=0), torch.ones(4), rtol=0, atol=0.03)


def test_seeds_heads_and_edges_have_nothing_in_common():
    torch.manual_seed(0)
    seeds = [int(draw_seed()) for _ in range(6)]
    masks = (
        torch.stack([(kept(torch.tensor(s), 20_000, 2, 0.5) > 0).float() for s in seeds]).movedim(1, -1).flatten(0, 1)
    )
    masks = torch.cat([masks, masks[:1].roll(1, dims=1)])
    correlation = torch.corrcoef(masks) - torch.eye(len(masks))
    assert correlation.abs().max() < 0.05


def test_no_dropout_and_no_edges():
    assert (kept(torch.tensor(3), 7, 2, 0.0) == 1).all()
    assert kept(torch.tensor(3), 0, 2, 0.5).shape == (0, 2)


def test_threshold_is_of_32_bits():
    assert threshold(0.0) == 0
    assert threshold(0.5) == 2**31
    assert threshold(1 - 1e-12) < 2**32


def test_seeds_come_from_torch():
    torch.manual_seed(4)
    first, second = draw_seed(), draw_seed()
    torch.manual_seed(4)
    assert first == draw_seed() != second
    assert 0 <= int(first) < 2**62
