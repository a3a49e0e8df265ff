import pytest
import torch
import torch.nn.functional as F

import stgraph.nn.half_attention as module
from stgraph.nn.half_attention import grouped_half_attention, half_attention, is_halved
from stgraph.nn.packed_attention import grouped_attention


def tokens(heads, queries, keys, channels=16):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(heads, n, channels, generator=generator).bfloat16().requires_grad_() for n in (queries, keys, keys)
    ]


@pytest.mark.parametrize("blocks", [1, 7])
@pytest.mark.parametrize(("queries", "keys"), [(50, 50), (13, 40), (1, 1)])
def test_comes_close_to_exact_attention(monkeypatch, blocks, queries, keys):
    if blocks > 1:
        monkeypatch.setattr(module, "_LEAST_QUERIES", 8)
        monkeypatch.setattr(module, "_WEIGHTS_AT_ONCE", 1)
    halved = tokens(2, queries, keys)
    exact = [t.detach().float().requires_grad_() for t in halved]
    found, expected = half_attention(*halved), F.scaled_dot_product_attention(*exact)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.02)
    grad = torch.randn_like(expected).bfloat16()
    found.backward(grad)
    expected.backward(grad.float())
    for one, other in zip(halved, exact, strict=True):
        assert float((one.grad.float() - other.grad).norm()) <= 0.02 * float(other.grad.norm()) + 1e-6


def test_under_autocast():
    q, k, v = tokens(2, 30, 30)
    with torch.autocast("cpu", torch.bfloat16):
        found = half_attention(q, k, v)
        found.float().sum().backward()
    assert torch.equal(found, half_attention(q, k, v))


def test_groups():
    sizes = ((2, 3, 5), (1, 4, 6), (1, 0, 2), (1, 2, 0))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(n, 2, 8, generator=generator).bfloat16() for n in (12, 18, 18))
    expected = grouped_attention(q.float(), k.float(), v.float(), sizes)
    torch.testing.assert_close(grouped_half_attention(q, k, v, sizes).float(), expected, rtol=0, atol=0.02)
    assert grouped_half_attention(q[:0], k[:0], v[:0], ()).shape == (0, 2, 8)


def test_when_it_is_chosen():
    long, short = ((1, 200, 200),), ((9, 20, 20),)
    half = torch.zeros(1, 1, 1, dtype=torch.bfloat16)
    assert is_halved(half, long)
    assert not is_halved(half, short)
    assert not is_halved(half, ())
    assert not is_halved(half.float(), long)
    assert not is_halved(half.to("meta"), long)


def test_memory_is_linear():
    """What is kept for the way back grows as the tokens do, not as their square."""
    kept = []
    for n in (64, 256):
        total = 0

        def pack(t):
            nonlocal total
            total += t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            half_attention(*tokens(2, n, n))
        kept.append(total)
    assert kept[1] <= 4 * kept[0]
