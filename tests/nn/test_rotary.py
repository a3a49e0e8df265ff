import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import InputError
from stgraph.nn.rotary import rotate, rotation, side_by_side

D = 16


def by_hand(x, gene, slot):
    """One head as the release writes it: halves of channels, and in each channel i goes with i + D / 4."""
    out = torch.empty_like(x)
    for half, position in enumerate((gene, slot)):
        part = x[half * D // 2 : (half + 1) * D // 2]
        frequency = 10000.0 ** (-2 * torch.arange(D // 4) / (D // 2))
        angle = torch.cat([position * frequency, position * frequency])
        turned = torch.cat([-part[D // 4 :], part[: D // 4]])
        out[half * D // 2 : (half + 1) * D // 2] = part * angle.cos() + turned * angle.sin()
    return out


def test_is_what_the_release_does():
    torch.manual_seed(0)
    x, gene, slot = torch.randn(3, 2, D), torch.tensor([0, 5, 300]), torch.tensor([0, 1, 7])
    order = side_by_side(1, D)
    found = rotate(x[..., order], rotation(gene, slot, D))
    for token in range(3):
        for head in range(2):
            expected = by_hand(x[token, head], gene[token], slot[token])[order]
            torch.testing.assert_close(found[token, head], expected, rtol=0, atol=1e-5)


def test_heads_are_reordered_one_by_one():
    assert side_by_side(2, 8).tolist() == [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15]


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 64), st.integers(0, 64), st.integers(0, 50))
def test_products_depend_on_differences(one, other, near, far, shift):
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, D), torch.randn(1, 1, D)

    def product(by):
        first = rotate(q, rotation(torch.tensor([one + by]), torch.tensor([near + by]), D))
        return (first * rotate(k, rotation(torch.tensor([other + by]), torch.tensor([far + by]), D))).sum()

    torch.testing.assert_close(product(0), product(shift), rtol=0, atol=2e-3)


def test_each_dimension_has_its_half():
    x = torch.ones(1, 1, D)
    by_gene = rotate(x, rotation(torch.tensor([3]), torch.tensor([0]), D))[0, 0]
    by_slot = rotate(x, rotation(torch.tensor([0]), torch.tensor([3]), D))[0, 0]
    assert (by_gene[: D // 2] != 1).all()
    assert (by_gene[D // 2 :] == 1).all()
    torch.testing.assert_close(by_slot, by_gene.roll(D // 2))


def test_half_precision_and_nothing():
    x = torch.randn(4, 1, D, dtype=torch.bfloat16)
    by = rotation(torch.arange(4), torch.zeros(4), D)
    assert rotate(x, by).dtype == torch.bfloat16
    torch.testing.assert_close(rotate(x, by).float(), rotate(x.float(), by), rtol=0, atol=0.05)
    assert rotate(x[:0], by[:0]).shape == (0, 1, D)


def test_heads_that_do_not_divide():
    with pytest.raises(InputError, match="heads of a multiple of 4 channels, not 6"):
        rotation(torch.tensor([0]), torch.tensor([0]), 6)
