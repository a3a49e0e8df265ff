"""The distance bias of the default model is exchanged by object or config."""

import numpy as np
import pytest
import torch
from torch import nn

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.data.convert import to_hetero_data
from stgraph.errors import InputError
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.nn.distance_bias import (
    BasisBias,
    BesselBasis,
    BinBias,
    CosineEnvelope,
    CutoffBias,
    GaussianBias,
    NoBias,
    SToFMGaussianBias,
    TabulatedBias,
)
from stgraph.nn.distance_bias.choice import make_bias
from stgraph.training.loop import Trainer

BIASES = {
    "none": NoBias(4),
    "bessel": BasisBias(BesselBasis(8), 4),
    "bins": BinBias(4),
    "tabulated": TabulatedBias(GaussianBias(4, 8)),
    "stofm": SToFMGaussianBias(4, 8),
    "cut off": CutoffBias(GaussianBias(4, 8), CosineEnvelope(1.5)),
}


@pytest.mark.parametrize("bias", BIASES.values(), ids=list(BIASES))
def test_it_is_trained_saved_and_loaded(bias, tissue, tmp_path):
    model = {"_target_": "stgraph.models.se2_transformer.SE2Transformer", "hidden_channels": 16}
    result = stgraph.fit(
        tissue, model=model | {"distance_bias": to_config(bias)}, trainer=Trainer(max_steps=3), progress=False
    )
    assert all(np.isfinite(record["loss"]) for record in result.history)
    result.pretrained.save(tmp_path)
    again = stgraph.from_pretrained(tmp_path)
    assert type(again.model.bias) is type(bias)
    graph = next(iter(result.graphs.values()))
    np.testing.assert_array_equal(again.embed_graph(graph), result.pretrained.embed_graph(graph))


def test_an_object_is_a_pattern_and_its_config_draws_the_same_weights():
    pattern = BinBias(4, num_bins=8)
    models = []
    for bias in (pattern, to_config(pattern)):
        torch.manual_seed(0)
        models.append(SE2Transformer(5, distance_bias=bias))
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert models[0].bias is not pattern
    assert to_config(models[0]) == to_config(models[1])
    assert type(instantiate(to_config(models[0])).bias) is BinBias


def test_without_a_bias_distances_do_not_matter(tissue):
    data = to_hetero_data(stgraph.build_graph(tissue))
    torch.manual_seed(0)
    for bias, alike in ((NoBias(4), True), (None, False)):
        model = SE2Transformer(data["cell"].x.shape[1], distance_bias=bias).eval()
        farther = data.clone()
        farther["cell", "near", "cell"].edge_attr = farther["cell", "near", "cell"].edge_attr ** 2
        assert torch.equal(model.embed(data), model.embed(farther)) == alike


def test_the_pair_state_of_edges_beyond_a_cut_off_is_finite(tissue):
    data = to_hetero_data(stgraph.build_graph(tissue))
    model = SE2Transformer(data["cell"].x.shape[1], distance_bias=BIASES["cut off"])
    out = model(data)
    assert (out.near_pair == -30).any()
    out.near_pair.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("bias", "match"),
    [
        (NoBias(3), "NoBias has 3 heads, but the model has 4"),
        (BinBias(4, num_edge_types=2), "BinBias tells 2 types of edges apart, but the model has 4"),
        (nn.Linear(2, 4), "with heads and num_edge_types"),
        ("none", "with heads and num_edge_types"),
    ],
)
def test_biases_that_do_not_fit(bias, match):
    with pytest.raises(InputError, match=match):
        make_bias(bias, heads=4, num_edge_types=4)
