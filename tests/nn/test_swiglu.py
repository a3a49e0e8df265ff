import pytest
import torch
import torch.nn.functional as F

from stgraph.errors import InputError
from stgraph.nn.rotary import rotate, rotation, side_by_side
from stgraph.nn.swiglu import PreNormLayer, make_norm

C, H = 16, 2
SIZES = ((1, 2, 2), (2, 3, 3))


@pytest.fixture(params=["rms", "layer"])
def layer(request):
    torch.manual_seed(0)
    layer = PreNormLayer(C, H, 24, request.param)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer


@pytest.fixture
def tokens():
    torch.manual_seed(1)
    return torch.randn(8, C), rotation(torch.arange(8) * 3, torch.arange(8) % 3, C // H)


def by_hand(layer, x, by):
    """One sequence, written out."""
    attention = layer.attention
    n = attention["ln"](x)
    q, k, v = (attention["self"][name](n) for name in ("query", "key", "value"))
    order = side_by_side(H, C // H)
    q, k = (rotate(t[:, order].view(-1, H, C // H), by) for t in (q, k))
    weight = torch.einsum("qhd,khd->hqk", q, k).mul((C // H) ** -0.5).softmax(-1)
    x = x + attention["output"]["dense"](torch.einsum("hqk,khd->qhd", weight, v.view(-1, H, C // H)).flatten(1))
    n, mlp = layer.ln(x), layer.mlp
    return x + mlp["down_proj"](F.silu(mlp["gate_proj"](n)) * mlp["up_proj"](n))


def test_is_what_it_says(layer, tokens):
    x, by = tokens
    expected = torch.cat([by_hand(layer, x[part], by[part]) for part in (slice(0, 2), slice(2, 5), slice(5, 8))])
    torch.testing.assert_close(layer(x, SIZES, by), expected, rtol=1e-5, atol=1e-5)


def test_some_queries_have_what_they_have_among_all(layer, tokens):
    x, by = tokens
    at = torch.tensor([1, 2, 3, 5, 6])
    some = layer(x, ((1, 1, 2), (2, 2, 3)), by, x[at], by[at])
    torch.testing.assert_close(some, layer(x, SIZES, by)[at], rtol=1e-5, atol=1e-5)


def test_where_a_token_is_matters(layer, tokens):
    x, by = tokens
    assert not torch.allclose(layer(x, SIZES, by), layer(x, SIZES, by.flip(0)), atol=1e-3)


def test_autocast_comes_close(layer):
    x, by = torch.randn(300, C), rotation(torch.arange(300), torch.zeros(300), C // H)
    sizes = ((1, 300, 300),)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x, sizes, by)
        half.sum().backward()
    exact = layer(x, sizes, by)
    assert float(((half - exact).norm() / exact.norm()).detach()) < 0.03


def test_dropout_is_for_training(layer, tokens):
    x, by = tokens
    layer.dropout = 0.5
    assert not torch.equal(layer(x, SIZES, by), layer(x, SIZES, by))
    assert torch.equal(layer.eval()(x, SIZES, by), layer(x, SIZES, by))


def test_no_tokens(layer):
    assert layer(torch.zeros(0, C), (), torch.zeros(0, C // H // 2, dtype=torch.complex64)).shape == (0, C)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((16, 3, 8), "multiple of heads"),
        ((12, 2, 8), "multiple of 4 channels, not 6"),
        ((16, 2, 8, "batch"), "norm must be one of rms, layer, not 'batch'"),
        ((16, 2, 8, "rms", 1.0), "dropout must be from 0 to below 1"),
    ],
)
def test_senseless_arguments(arguments, said):
    with pytest.raises(InputError, match=said):
        PreNormLayer(*arguments)


def test_norms():
    x = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(make_norm("rms", 2)(x), x / 12.5**0.5)
    torch.testing.assert_close(make_norm("layer", 2)(x), torch.tensor([[-1.0, 1.0]]), rtol=0, atol=1e-3)
