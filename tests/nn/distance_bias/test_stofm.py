import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from stgraph.nn.distance_bias import SToFMGaussianBias


def by_loops(weights, distance):
    """SToFM's Gaussian module, pair by pair, from its published weights."""
    w = {name: value.double() for name, value in weights.items()}
    rows = []
    for d in distance.double():
        moved = w["linear.weight"][0, 0] * d + w["linear.bias"][0]
        density = []
        for mean, std in zip(w["means.weight"][0], w["stds.weight"][0], strict=True):
            s = abs(std) + 1e-5
            density.append(torch.exp(-(((moved - mean) / s) ** 2) / 2) / (math.sqrt(2 * math.pi) * s))
        hidden = (w["proj.0.weight"] @ torch.stack(density) + w["proj.0.bias"]).clamp_min(0)
        row = w["proj.2.weight"] @ hidden + w["proj.2.bias"]
        rows.append(row if d != 0 else torch.zeros_like(row))
    return torch.stack(rows)


def a_module(heads=3, num_kernels=16, seed=0):
    torch.manual_seed(seed)
    module = SToFMGaussianBias(heads, num_kernels)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))  # also negative widths
        module.linear.weight.fill_(0.4)
    return module


def test_value_is_what_loops_find():
    module = a_module()
    distance = torch.cat([torch.zeros(2), torch.linspace(0.01, 30, 60)])
    expected = by_loops(module.state_dict(), distance)
    found = module(distance, torch.arange(62) % 4)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert (found[:2] == 0).all()
    assert (module.stds.weight < 0).any()


def test_gradients_reach_every_parameter():
    module = a_module(heads=2, num_kernels=3).double()
    distance = torch.tensor([0.0, 0.3, 1.0, 2.5], dtype=torch.double)
    names, values = zip(*module.named_parameters(), strict=True)

    def found(*values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(module, given, (distance, torch.zeros(4, dtype=torch.long)))

    assert torch.autograd.gradcheck(found, values)
    grads = torch.autograd.grad(found(*values).square().sum(), values)
    assert all((g != 0).any() for g in grads)


def test_it_starts_as_published():
    torch.manual_seed(0)
    module = SToFMGaussianBias(heads=8)
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert shapes == {
        "linear.weight": (1, 1), "linear.bias": (1,), "means.weight": (1, 128), "stds.weight": (1, 128),
        "proj.0.weight": (128, 128), "proj.0.bias": (128,), "proj.2.weight": (8, 128), "proj.2.bias": (8,),
    }  # fmt: skip
    assert module.linear.weight.item() == 1
    assert module.linear.bias.item() == 0
    for weight in (module.means.weight, module.stds.weight):
        assert 0 <= weight.min() < 0.2
        assert 2.8 < weight.max() <= 3
    assert module.proj[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (module.proj[0].bias == 0).all()


def test_it_is_finite_at_any_distance():
    module = a_module()
    distance = torch.cat([torch.zeros(1), torch.logspace(-30, 8, 200)]).requires_grad_()
    out = module(distance, torch.zeros(201, dtype=torch.long))
    out.square().sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(distance.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


@pytest.mark.real
def test_published_layout_gives_the_stored_pair_state(data_dir):
    """The pair state is the bias and the logits of both layers: without these, which are computed here, the bias."""
    golden = data_dir / "golden"
    w = load_file(golden / "stofm_se2_random.safetensors")
    stored = {name: torch.from_numpy(x) for name, x in np.load(golden / "stofm_se2_random.npz").items()}
    heads, prefix = 4, "gaussian."
    module = SToFMGaussianBias(heads, num_kernels=16)
    module.load_state_dict({k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}, strict=True)
    distance, types = stored["distances"], stored["token_types"]
    bias = module(distance.flatten(), types.new_zeros(distance.numel())).view(*distance.shape, heads)

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"])

    x = linear(stored["token_embeddings"], "embedding_layer") + w["token_type_embeddings.weight"][types]
    padding = types == 3
    pair = bias
    for layer in ("encoder.layers.0.", "encoder.layers.1."):
        q, k, v = (linear(x, f"{layer}self_attn.{c}_proj").unflatten(-1, (heads, -1)) for c in "qkv")
        pair = pair + torch.einsum("bihd,bjhd->bijh", q, k) / math.sqrt(q.shape[-1])
        seen = pair.masked_fill(padding[:, None, :, None], -torch.inf)
        heard = torch.einsum("bijh,bjhd->bihd", seen.softmax(2), v).flatten(2)
        x = norm(x + linear(heard, layer + "self_attn.out_proj"), layer + "self_attn_layer_norm")
        x = norm(x + linear(F.gelu(linear(x, layer + "fc1")), layer + "fc2"), layer + "final_layer_norm")
    both = ~padding[:, :, None] & ~padding[:, None, :]
    logits = pair - bias
    torch.testing.assert_close(bias[both], (stored["pair_state"] - logits)[both], atol=1e-5, rtol=0)


def test_distances_keep_their_precision_under_autocast():
    """Rounded to bfloat16, distances of 60 would be off by an eighth: a tenth of the range of such a bias."""
    module = a_module(heads=8, num_kernels=128)
    with torch.no_grad():
        module.linear.weight.fill_(1.0)
        module.means.weight.uniform_(0, 100)
        module.stds.weight.uniform_(0.5, 5)
        distance, edge_type = 100 * torch.rand(2000), torch.zeros(2000, dtype=torch.long)
        exact = module(distance, edge_type)
        with torch.autocast("cpu", torch.bfloat16):
            found = module(distance, edge_type).float()
    assert (found - exact).abs().max() < 0.02 * (exact.max() - exact.min())
