import torch

from stgraph.nn.distance_bias import GaussianBias


def test_tells_distances_and_edge_types_apart():
    torch.manual_seed(0)
    bias = GaussianBias(heads=3, num_kernels=16)
    with torch.no_grad():
        bias.shift.copy_(torch.arange(5.0) / 5)
    near, far = bias(torch.tensor([1.0, 30.0]), torch.tensor([0, 0]))
    assert (near - far).abs().max() > 1e-3
    one, other = bias(torch.tensor([2.0, 2.0]), torch.tensor([0, 3]))
    assert (one - other).abs().max() > 1e-3


def test_is_smooth_in_distance_and_finite_everywhere():
    torch.manual_seed(0)
    bias = GaussianBias(heads=2)
    distance = torch.cat([torch.zeros(1), torch.logspace(-6, 8, 200)])
    out = bias(distance, torch.zeros(201, dtype=torch.long))
    assert torch.isfinite(out).all()
    close = bias(torch.tensor([5.0, 5.001]), torch.zeros(2, dtype=torch.long))
    assert (close[0] - close[1]).abs().max() < 1e-2


def test_gaussians_cover_the_range_they_are_spread_over():
    bias = GaussianBias(heads=1, num_kernels=32, max_distance=100.0)
    d = torch.log1p(torch.linspace(0, 100, 300))
    kernel = torch.exp(-0.5 * ((d[:, None] - bias.mean) / bias.width) ** 2)
    assert kernel.amax(dim=1).min() > 0.8
