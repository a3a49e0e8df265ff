import math

import pytest
import torch

from stgraph.nn.distance_bias import (
    BasisBias,
    BesselBasis,
    CosineEnvelope,
    CutoffBias,
    EnvelopedBasis,
    GaussianBias,
    PolynomialEnvelope,
)
from stgraph.nn.edge_attention import EdgeGraph, edge_attention

ENVELOPES = [CosineEnvelope(5.0), PolynomialEnvelope(5.0), PolynomialEnvelope(5.0, exponent=2)]


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_envelopes_fall_from_one_to_zero_and_stay_there(envelope):
    distance = torch.linspace(0, 10, 401)
    factor = envelope(distance)
    assert factor[0] == 1
    assert (factor[distance >= 5] == 0).all()
    assert (factor[distance < 4.9] > 0).all()
    assert (factor.diff() < 1e-6).all()
    assert torch.isfinite(envelope(torch.logspace(-30, 8, 100))).all()


def test_envelopes_are_their_formulas():
    for d in (0.5, 2.0, 4.5):
        x, p = d / 5, 6
        assert float(ENVELOPES[0](torch.tensor(d))) == pytest.approx((math.cos(math.pi * x) + 1) / 2, rel=1e-5)
        polynomial = 1 - 28 * x**p + 48 * x ** (p + 1) - 21 * x ** (p + 2)
        assert float(ENVELOPES[1](torch.tensor(d))) == pytest.approx(polynomial, rel=1e-4)


def test_the_polynomial_is_flat_at_the_cut_off():
    distance = torch.tensor([5 - 1e-4], dtype=torch.double, requires_grad=True)
    (slope,) = torch.autograd.grad(PolynomialEnvelope(5.0)(distance).sum(), distance, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), distance)
    assert abs(float(slope.detach())) < 1e-6
    assert abs(float(bend)) < 1e-2


def test_an_enveloped_basis_ends_at_the_cut_off_and_its_bias_is_that_of_its_type():
    torch.manual_seed(0)
    basis = EnvelopedBasis(BesselBasis(4, cutoff=5.0), CosineEnvelope(5.0))
    distance = torch.tensor([0.0, 1.0, 6.0, 50.0])
    torch.testing.assert_close(basis(distance), basis.basis(distance) * basis.envelope(distance)[:, None])
    bias = BasisBias(basis, heads=2)(distance, torch.zeros(4, dtype=torch.long))
    assert torch.equal(bias[2], bias[3])
    assert torch.isfinite(bias).all()


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_a_cut_off_weighs_attention_by_the_envelope(envelope):
    torch.manual_seed(0)
    inner = GaussianBias(heads=1)
    distance = torch.tensor([0.5, 2.0, 4.0, 5.0, 9.0])
    kind = torch.zeros(5, dtype=torch.long)
    graph, _ = EdgeGraph.from_edges(6, kind, torch.arange(1, 6), distance, kind)
    q = torch.zeros(6, 1, 6)
    v = torch.eye(6)[:, None]
    bias = CutoffBias(inner, envelope)(distance, kind)
    weight = edge_attention(q, q, v, bias, graph)[0, 0, 1:]
    expected = envelope(distance) * inner(distance, kind)[:, 0].exp()
    torch.testing.assert_close(weight, expected / expected.sum())
    assert (weight[3:] == 0).all()
    assert (weight[:3] > 0).all()


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_gradients_of_a_cut_off_are_finite(envelope):
    bias = CutoffBias(GaussianBias(heads=2), envelope)
    distance = torch.tensor([0.0, 1.0, 4.9, 5.0, 80.0], requires_grad=True)
    out = bias(distance, torch.zeros(5, dtype=torch.long))
    torch.where(torch.isfinite(out), out, 0).sum().backward()
    assert torch.isfinite(distance.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in bias.parameters())


def test_settings_are_checked():
    with pytest.raises(ValueError, match="above 0"):
        CosineEnvelope(0.0)
    with pytest.raises(ValueError, match="above 0"):
        PolynomialEnvelope(-1.0)
    with pytest.raises(ValueError, match="exponent"):
        PolynomialEnvelope(1.0, exponent=0)
