import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stgraph.nn.edge_attention import EdgeGraph
from stgraph.nn.se2_encoder import SE2Encoder

BACKENDS = ["auto", "dense", "fused-cpu", "reference"]


def brute_force(weights, features, distances, types, layers, heads):
    """The published forward pass of one part, read off the specification, all pairs at once."""

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    n = len(features)
    d = distances * weights["gaussian.linear.weight"][0, 0] + weights["gaussian.linear.bias"][0]
    mean, width = weights["gaussian.means.weight"][0], weights["gaussian.stds.weight"][0].abs() + 1e-5
    phi = torch.exp(-0.5 * ((d[..., None] - mean) / width) ** 2) / (math.sqrt(2 * math.pi) * width)
    pair = linear("gaussian.proj.2", linear("gaussian.proj.0", phi).clamp(min=0)) * (distances != 0)[..., None]
    x = linear("embedding_layer", features) + weights["token_type_embeddings.weight"][types]
    hidden = [x]
    for number in range(layers):
        layer = f"encoder.layers.{number}"
        q, k, v = (linear(f"{layer}.self_attn.{name}_proj", x).view(n, heads, -1) for name in "qkv")
        pair = torch.einsum("ihd,jhd->ijh", q * q.shape[-1] ** -0.5, k) + pair
        out = torch.einsum("ijh,jhd->ihd", pair.softmax(dim=1), v).reshape(n, -1)
        x = norm(f"{layer}.self_attn_layer_norm", x + linear(f"{layer}.self_attn.out_proj", out))
        wide = linear(f"{layer}.fc1", x)
        wide = 0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))
        x = norm(f"{layer}.final_layer_norm", x + linear(f"{layer}.fc2", wide))
        hidden.append(x)
    return x, pair, hidden


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = SE2Encoder(7, hidden_channels=24, num_layers=3, heads=4, ffn_channels=20, num_kernels=9).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return encoder


def part(number, generator):
    """Features, distances with coincident nodes, and types of a part of some nodes."""
    pos = torch.randint(6, (number, 2), generator=generator).float()
    types = torch.randint(3, (number,), generator=generator)
    return torch.randn(number, 7, generator=generator), torch.cdist(pos, pos), types


def complete(*distances):
    flat = torch.cat([d.ravel() for d in distances])
    return EdgeGraph.complete([len(d) for d in distances], flat, torch.zeros(len(flat), dtype=torch.long))


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_what_the_specification_says(encoder, backend):
    generator = torch.Generator().manual_seed(1)
    parts = [part(number, generator) for number in (11, 1, 6)]
    for layer in encoder.encoder["layers"]:
        layer.backend = backend
    features, distances, types = zip(*parts, strict=True)
    last, pair, hidden = encoder(torch.cat(features), torch.cat(types), complete(*distances), return_hidden=True)
    expected = [brute_force(encoder.state_dict(), *each, layers=3, heads=4) for each in parts]
    torch.testing.assert_close(last, torch.cat([x for x, _, _ in expected]), rtol=0, atol=1e-5)
    torch.testing.assert_close(pair, torch.cat([p.flatten(0, 1) for _, p, _ in expected]), rtol=0, atol=1e-5)
    assert len(hidden) == 4
    for state, of_parts in zip(hidden, zip(*(states for _, _, states in expected), strict=True), strict=True):
        torch.testing.assert_close(state, torch.cat(of_parts), rtol=0, atol=1e-5)


def test_missing_edges_are_pairs_of_no_weight(encoder):
    features, distances, types = part(9, torch.Generator().manual_seed(2))
    there = (torch.rand(9, 9, generator=torch.Generator().manual_seed(3)) < 0.6) | torch.eye(9).bool()
    row, col = there.nonzero(as_tuple=True)
    graph, _ = EdgeGraph.from_edges(9, row, col, distances[there], torch.zeros_like(row))
    hidden = complete(distances)
    bias = encoder.distance_bias(hidden).view(9, 9, 4).masked_fill(~there[..., None], -torch.inf).view(81, 4)
    x = encoder.embed(features, types)
    pair = bias
    for layer in encoder.encoder["layers"]:
        x, pair = layer(x, hidden, pair)
    last, sparse, nothing = encoder(features, types, graph)
    assert nothing is None
    torch.testing.assert_close(last, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(sparse, pair.view(9, 9, 4)[there], rtol=0, atol=1e-5)


def test_names_are_those_published(encoder):
    layer = [f"self_attn.{name}_proj" for name in "qkv"]
    layer += ["self_attn.out_proj", "self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"]
    modules = ["embedding_layer", "gaussian.linear", "gaussian.proj.0", "gaussian.proj.2"]
    modules += [f"encoder.layers.{i}.{name}" for i in range(3) for name in layer]
    names = {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
    names |= {"token_type_embeddings.weight", "gaussian.means.weight", "gaussian.stds.weight"}
    assert set(encoder.state_dict()) == names
    again = SE2Encoder(7, 24, 3, 4, 20, 9, tabulate=1e-3)
    again.load_state_dict(encoder.state_dict(), strict=True)
    assert sum(p.numel() for p in SE2Encoder(256).parameters()) == 1_667_722


def test_first_weights_are_drawn_as_published():
    torch.manual_seed(0)
    weights = SE2Encoder(256, num_layers=1).state_dict()
    for name, std in {
        "embedding_layer": 0.02,
        "gaussian.proj.0": 0.02,
        "encoder.layers.0.fc1": 0.02,
        "encoder.layers.0.self_attn.q_proj": math.sqrt(0.5 * 2 / 512),
        "encoder.layers.0.self_attn.out_proj": math.sqrt(2 / 512),
    }.items():
        assert weights[f"{name}.weight"].std() == pytest.approx(std, rel=0.02), name
        assert not weights[f"{name}.bias"].any(), name
    for name in ("means", "stds"):
        kernels = weights[f"gaussian.{name}.weight"]
        assert 0 <= kernels.min() < 0.3
        assert 2.7 < kernels.max() <= 3


def test_bias_in_pieces_is_the_same(encoder, monkeypatch):
    graph = complete(part(9, torch.Generator().manual_seed(2))[1])
    expected = encoder.distance_bias(graph)
    assert expected.requires_grad
    monkeypatch.setattr("stgraph.nn.se2_encoder._EDGES_AT_ONCE", 7)
    with torch.no_grad():
        torch.testing.assert_close(encoder.distance_bias(graph), expected.detach(), rtol=1e-5, atol=1e-6)


def test_tabulated_bias_has_the_same_weights_and_nearly_the_same_states(encoder):
    features, distances, types = part(30, torch.Generator().manual_seed(2))
    with torch.no_grad():
        encoder.gaussian.stds.weight.abs_().clamp_(min=0.5)
    table = SE2Encoder(7, 24, 3, 4, 20, 9, tabulate=1e-3).eval()
    table.load_state_dict(encoder.state_dict(), strict=True)
    graph = complete(distances)
    expected, pair, _ = encoder(features, types, graph)
    last, tabulated, _ = table(features, types, graph)
    spread = encoder.distance_bias(graph).detach().amax()
    torch.testing.assert_close(tabulated, pair, rtol=0, atol=float(5e-3 * spread))
    torch.testing.assert_close(last, expected, rtol=0, atol=2e-3)
    assert not torch.equal(last, expected)
    last.square().sum().backward()
    for name, parameter in table.named_parameters():
        assert parameter.grad is not None, name


def test_dropout_only_in_training(encoder):
    features, distances, types = part(12, torch.Generator().manual_seed(2))
    graph = complete(distances)
    assert torch.equal(encoder(features, types, graph).last, encoder(features, types, graph).last)
    encoder.train()
    assert not torch.equal(encoder(features, types, graph).last, encoder(features, types, graph).last)


def test_pre_norm_ends_with_a_norm():
    torch.manual_seed(0)
    encoder = SE2Encoder(7, 24, 2, 4, 20, 9, norm="pre").eval()
    features, distances, types = part(12, torch.Generator().manual_seed(2))
    last, _, hidden = encoder(features, types, complete(distances), return_hidden=True)
    torch.testing.assert_close(last.mean(1), torch.zeros(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(last.var(1, unbiased=False), torch.ones(12), rtol=0, atol=1e-2)
    assert torch.equal(hidden[-1], last)
    assert "encoder.final_layer_norm.weight" in encoder.state_dict()


@pytest.mark.parametrize("wrong", [{"num_layers": 0}, {"dropout": 1.0}, {"attention_dropout": -0.1}, {"tabulate": 0.0}])
def test_senseless_sizes(wrong):
    with pytest.raises(ValueError, match="SE2Encoder needs"):
        SE2Encoder(4, **wrong)


@pytest.mark.real
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_published_code_gives_the_same(data_dir, backend):
    golden = data_dir / "golden" / "stofm_se2_random"
    sizes = json.loads(golden.with_suffix(".json").read_text())
    encoder = SE2Encoder(
        sizes["input_dim"],
        sizes["embedding_dim"],
        sizes["num_hidden_layers"],
        sizes["num_attention_heads"],
        sizes["ffn_embedding_dim"],
        sizes["gaussian_hidden_dim"],
        backend=backend,
    ).eval()
    encoder.load_state_dict(load_file(golden.with_suffix(".safetensors")), strict=True)
    arrays = {name: torch.from_numpy(array) for name, array in np.load(golden.with_suffix(".npz")).items()}
    types = arrays["token_types"]
    there = types != 3
    distances = [d[t][:, t] for d, t in zip(arrays["distances"], there, strict=True)]
    with torch.no_grad():
        last, pair, _ = encoder(arrays["token_embeddings"][there], types[there], complete(*distances))
    expected = torch.cat([p[t][:, t].flatten(0, 1) for p, t in zip(arrays["pair_state"], there, strict=True)])
    torch.testing.assert_close(last, arrays["last_hidden_state"][there], rtol=0, atol=1e-5)
    torch.testing.assert_close(pair, expected, rtol=0, atol=1e-5)
