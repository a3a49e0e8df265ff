import math

import pytest
import torch

from stgraph.nn.distance_bias import BasisBias, BesselBasis, BinBias, ExponentialBasis, NoBias


def test_bessel_is_its_formula_and_zero_at_the_cut_off():
    basis = BesselBasis(num_kernels=5, cutoff=7.0).double()
    distance = torch.linspace(0.1, 20, 50, dtype=torch.double)
    n = torch.arange(1, 6)
    expected = math.sqrt(2 / 7) * torch.sin(n * math.pi * distance[:, None] / 7) / distance[:, None]
    torch.testing.assert_close(basis(distance), expected, atol=1e-7, rtol=1e-5)  # frequencies were float32
    assert basis(torch.tensor([7.0], dtype=torch.double)).abs().max() < 1e-6
    torch.testing.assert_close(basis(torch.zeros(1)), basis(torch.full((1,), 1e-6)))


def test_exponential_is_its_formula_and_covers_its_range():
    basis = ExponentialBasis(num_kernels=6, cutoff=10.0, length=3.0)
    distance = torch.linspace(0, 10, 40)
    found = basis(distance).detach()
    start = math.exp(-10 / 3)
    for i, d in enumerate(distance.tolist()):
        for k in range(6):
            mean = start + (1 - start) * k / 5
            width = (2 / 6 * (1 - start)) ** -2
            assert float(found[i, k]) == pytest.approx(math.exp(-width * (math.exp(-d / 3) - mean) ** 2), rel=1e-4)
    assert found.amax(1).min() > 0.9
    torch.testing.assert_close(ExponentialBasis(4, 20.0)(distance), ExponentialBasis(4, 20.0, 4.0)(distance))


@pytest.mark.parametrize("basis", [BesselBasis(), ExponentialBasis()])
def test_bias_of_a_basis_is_finite_tells_types_apart_and_learns_everything(basis):
    torch.manual_seed(0)
    bias = BasisBias(basis, heads=3, num_edge_types=4)
    distance = torch.cat([torch.zeros(1), torch.logspace(-30, 8, 399)]).requires_grad_()
    out = bias(distance, torch.arange(400) % 4)
    assert out.shape == (400, 3)
    out.square().sum().backward()
    for grad in (distance.grad, *(p.grad for p in bias.parameters())):
        assert torch.isfinite(grad).all()
        assert (grad != 0).any()
    assert len(bias(torch.full((4,), 2.0), torch.arange(4)).unique(dim=0)) == 4
    near, far = bias(torch.tensor([1.0, 15.0]), torch.zeros(2, dtype=torch.long))
    assert (near - far).abs().max() > 1e-3


@pytest.mark.parametrize("smooth", [True, False])
def test_bins_are_what_loops_find(smooth):
    torch.manual_seed(0)
    bias = BinBias(heads=2, num_bins=4, num_edge_types=3, max_distance=15.0, smooth=smooth)  # at 0, 1, 3, 7, 15
    # by halves of bins in log2(1 + d)
    distance = torch.tensor([0.0, 2**0.5 - 1, 1.0001, 2**2.5 - 1, 14.0, 1e8])
    place = [0, 0.5, 1, 2.5, math.log2(15), 4]
    for t in range(3):
        found = bias(distance, torch.full((6,), t))
        for i, x in enumerate(place):
            low = min(math.floor(x), 3 if smooth else 4)
            share = x - low if smooth else 0
            expected = (1 - share) * bias.value[t, low] + (share * bias.value[t, low + 1] if smooth else 0)
            torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=1e-4)


def test_bins_learn():
    bias = BinBias(heads=2, num_bins=4, num_edge_types=1)
    distance = torch.linspace(0, 120, 500)
    bias(distance, torch.zeros(500, dtype=torch.long)).sum().backward()
    assert (bias.value.grad > 0).all()
    torch.testing.assert_close(bias.value.grad.sum(), torch.tensor(1000.0))


def test_no_bias_is_zero():
    bias = NoBias(heads=3)
    assert torch.equal(bias(torch.ones(4), torch.zeros(4, dtype=torch.long)), torch.zeros(4, 3))
    assert not list(bias.parameters())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BesselBasis(cutoff=0.0), "BesselBasis needs a larger cutoff"),
        (lambda: BesselBasis(num_kernels=0), "larger num_kernels"),
        (lambda: ExponentialBasis(num_kernels=1), "ExponentialBasis needs a larger num_kernels"),
        (lambda: ExponentialBasis(length=-1.0), "larger length"),
        (lambda: BinBias(2, num_bins=0), "BinBias needs bins"),
        (lambda: BinBias(2, max_distance=0.0), "max_distance above 0"),
    ],
)
def test_settings_are_checked(make, said):
    with pytest.raises(ValueError, match=said):
        make()
