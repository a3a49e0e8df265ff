import math
import warnings

import pytest
import torch
from torch import nn

from stgraph._config import instantiate, to_config
from stgraph.errors import StgraphWarning
from stgraph.nn.distance_bias import (
    BasisBias,
    BesselBasis,
    BinBias,
    CosineEnvelope,
    CutoffBias,
    ExponentialBasis,
    GaussianBias,
    NoBias,
    SToFMGaussianBias,
    TabulatedBias,
)


def shaken(module, amount):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * parameter.abs().mean() * torch.randn_like(parameter))
    return module


def modules(amount, seed):
    torch.manual_seed(seed)
    made = {
        "stofm": SToFMGaussianBias(heads=8),
        "gaussian": GaussianBias(heads=4),
        "bessel": BasisBias(BesselBasis(), heads=4),
        "exponential": BasisBias(ExponentialBasis(), heads=4),
        "bins": BinBias(heads=4),
    }
    return {name: shaken(module, amount) for name, module in made.items()}


def edges(num_edges=20_000, types=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    near, far = torch.rand(2, num_edges // 2, generator=generator)
    distance = torch.cat([4 * near, 130 * far])  # some lie beyond max_distance
    distance[::50] = 0
    return distance, torch.randint(0, types, (num_edges,), generator=generator)


@pytest.mark.parametrize("amount", [0.0, 0.5])
@pytest.mark.parametrize("name", ["stofm", "gaussian", "bessel", "exponential", "bins"])
@torch.no_grad()
def test_error_is_below_a_thousandth_of_the_range(name, amount):
    for seed in range(3):
        exact = modules(amount, seed)[name]
        distance, edge_type = edges(seed=seed)
        expected = exact(distance, edge_type)
        found = TabulatedBias(exact)(distance, edge_type)
        spread = (expected.amax(0) - expected.amin(0)).max()
        assert (found - expected).abs().max() < 1e-3 * spread


@torch.no_grad()
def test_a_smaller_tolerance_is_kept_too():
    exact = modules(0.0, 0)["stofm"]
    distance, edge_type = edges()
    expected = exact(distance, edge_type)
    spread = (expected.amax(0) - expected.amin(0)).max()
    errors = [(TabulatedBias(exact, tolerance=t)(distance, edge_type) - expected).abs().max() for t in (1e-1, 1e-4)]
    assert errors[1] < 1e-4 * spread < errors[0]


@pytest.mark.parametrize("place", [0.1, 0.9999, 1.7, 30.0])
@torch.no_grad()
def test_a_gaussian_far_narrower_than_a_cell_is_not_missed(place):
    exact = modules(0.0, 0)["stofm"]
    exact.linear.weight.fill_(2.0)
    exact.linear.bias.fill_(0.5)
    exact.means.weight[0, 3], exact.stds.weight[0, 3] = 2 * place + 0.5, 5e-4 * (1 + place)
    distance = torch.cat([place + 0.02 * (1 + place) * torch.linspace(-1, 1, 4000), torch.linspace(0, 100, 4000)])
    none = torch.zeros(8000, dtype=torch.long)
    found, expected = TabulatedBias(exact)(distance, none), exact(distance, none)
    assert (found - expected).abs().max() < 1e-3 * (expected.amax(0) - expected.amin(0)).max()


def test_a_gaussian_narrower_than_the_finest_knots_is_told():
    exact = modules(0.0, 0)["stofm"]
    with torch.no_grad():
        exact.stds.weight[0, 3] = 0.0
        exact.means.weight[0, 3] = 2.0
    with pytest.warns(StgraphWarning, match="bends too sharply"):
        TabulatedBias(exact)(*edges(100))


def test_distance_zero_is_exact():
    exact = shaken(modules(0.0, 0)["stofm"], 0.5)
    none = torch.zeros(3, dtype=torch.long)
    found = TabulatedBias(exact)(torch.tensor([0.0, 1e-12, 1.0]), none)
    assert (found[0] == 0).all()
    torch.testing.assert_close(found[1], exact(torch.tensor([1e-12]), none[:1])[0])
    assert found[1].abs().max() > 1e-3


@torch.no_grad()
def test_beyond_max_distance_nothing_is_clamped():
    exact = modules(0.0, 0)["gaussian"]
    distance, none = torch.logspace(0, 8, 300), torch.zeros(300, dtype=torch.long)
    found, expected = TabulatedBias(exact, max_distance=10.0)(distance, none), exact(distance, none)
    assert (found - expected).abs().max() < 1e-3 * (expected.amax(0) - expected.amin(0)).max()
    assert (expected[distance > 10].amax(0) - expected[distance > 10].amin(0)).max() > 1e-2


@torch.no_grad()
def test_an_edge_gets_the_same_whatever_other_edges_there_are():
    exact = modules(0.5, 0)["gaussian"]
    distance, edge_type = edges(2000)
    everything = TabulatedBias(exact)(distance, edge_type)
    for part in (distance < 3, distance > 50):
        assert torch.equal(TabulatedBias(exact)(distance[part], edge_type[part]), everything[part])


def test_gradients_are_those_of_the_interpolated_knots():
    exact = modules(0.5, 0)["gaussian"]
    tabulated = TabulatedBias(exact)
    distance, edge_type = edges(500)
    weight = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    grid = tabulated.place_knots(distance)
    at, kind = grid.points
    values = exact(at, kind)
    expected = distance.new_zeros(500, 4)
    for t in range(5):
        rows = (kind == t).nonzero()[1:, 0]
        mine = (edge_type == t) & (distance > 0)
        above = torch.searchsorted(at[rows], distance[mine]).clamp(min=1)
        low, high = rows[above - 1], rows[above]
        share = ((distance[mine] - at[low]) / (at[high] - at[low]))[:, None]
        expected = expected.index_put((mine,), torch.lerp(values[low], values[high], share))
        zero = (edge_type == t) & (distance == 0)
        expected = expected.index_put((zero,), values[rows[0] - 1].expand(int(zero.sum()), -1))
    parameters = list(exact.parameters())
    wanted = torch.autograd.grad((expected * weight).sum(), parameters)
    found = torch.autograd.grad((tabulated(distance, edge_type) * weight).sum(), parameters)
    for a, b in zip(wanted, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "most"), [("stofm", 0.1), ("gaussian", 1e-2), ("bessel", 1e-2), ("exponential", 1e-2)]
)
def test_gradients_are_about_those_of_the_exact_bias(name, most):
    exact = modules(0.0, 0)[name]
    distance, edge_type = edges()
    target = torch.exp(-distance)[:, None]
    parameters = list(exact.parameters())
    wanted, found = (
        torch.autograd.grad((bias(distance, edge_type) - target).square().mean(), parameters)
        for bias in (exact, TabulatedBias(exact))
    )
    for a, b in zip(wanted, found, strict=True):
        assert (a - b).norm() <= most * a.norm()


def test_gradients_of_distances_are_those_of_the_exact_bias():
    exact = modules(0.0, 0)["gaussian"]
    distance, edge_type = edges(1000)
    distance = distance.clamp_min(0.01).requires_grad_()
    wanted, found = (
        torch.autograd.grad(bias(distance, edge_type).sum(), distance)[0]
        for bias in (exact, TabulatedBias(exact, tolerance=1e-5))
    )
    assert (wanted - found).abs().max() < 0.05 * wanted.abs().max()


def test_edge_types_are_told_apart_or_not_as_in_the_exact_bias():
    torch.manual_seed(0)
    distance, edge_type = torch.full((5,), 2.0), torch.arange(5)
    typed = TabulatedBias(shaken(GaussianBias(heads=2), 0.5))(distance, edge_type)
    assert len(typed.unique(dim=0)) == 5
    blind = TabulatedBias(SToFMGaussianBias(heads=2))(distance, edge_type)
    assert len(blind.unique(dim=0)) == 1


def test_no_edges_no_bias_and_half_precision():
    distance, edge_type = edges(100)
    tabulated = TabulatedBias(GaussianBias(heads=2))
    assert tabulated(distance[:0], edge_type[:0]).shape == (0, 2)
    assert (TabulatedBias(NoBias(heads=3))(distance, edge_type) == 0).all()
    assert tabulated(distance.bfloat16(), edge_type).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tabulated(distance, edge_type), tabulated.float()(distance, edge_type))
    double = TabulatedBias(GaussianBias(heads=2).double())(distance.double(), edge_type)
    assert double.dtype == torch.float64


def test_it_runs_compiled():
    tabulated = TabulatedBias(GaussianBias(heads=2))
    distance, edge_type = edges(100)
    torch.testing.assert_close(
        torch.compile(tabulated, backend="aot_eager")(distance, edge_type), tabulated(distance, edge_type)
    )


def test_a_jump_is_told():
    exact = BinBias(heads=2, smooth=False)
    with pytest.warns(StgraphWarning, match="BinBias jumps"):
        TabulatedBias(exact)(*edges(100))


def test_a_cut_off_goes_around_the_table():
    inner, envelope = GaussianBias(heads=2), CosineEnvelope(20.0)
    distance, edge_type = edges(500)
    with pytest.raises(ValueError, match=r"CutoffBias is not finite everywhere.*around the table"):
        TabulatedBias(CutoffBias(inner, envelope))(distance, edge_type)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = CutoffBias(TabulatedBias(inner), envelope)(distance, edge_type)
    assert torch.equal(torch.isinf(found).all(1), distance >= 20)


@pytest.mark.parametrize("wrong", [-1.0, torch.nan, torch.inf])
def test_distances_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=r"not finite|negative"):
        TabulatedBias(GaussianBias(heads=2))(torch.tensor([1.0, wrong]), torch.tensor([0, 0]))


@pytest.mark.parametrize(
    "wrong", [{"max_distance": 0.0}, {"tolerance": -1.0}, {"max_distance": math.inf}, {"tolerance": math.inf}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match="above 0"):
        TabulatedBias(NoBias(heads=1), **wrong)


@pytest.mark.parametrize("name", ["stofm", "gaussian", "bessel", "exponential", "bins"])
def test_config_round_trip(name):
    whole = CutoffBias(TabulatedBias(modules(0.0, 0)[name], tolerance=0.01), CosineEnvelope(3.0))
    config = to_config(whole)
    again = instantiate(config)
    assert isinstance(again, nn.Module)
    assert to_config(again) == config
    assert again.heads == whole.heads
    assert again.num_edge_types == whole.num_edge_types
    again.load_state_dict(whole.state_dict())
