import pytest
import torch

from stgraph.nn.edge_attention import EdgeGraph
from stgraph.nn.stofm_block import SToFMBlock


@pytest.fixture
def graph():
    return EdgeGraph.complete([6], torch.ones(36), torch.zeros(36, dtype=torch.long))


def forward(graph, **rates):
    """Output and logits of a block in training, and what entered its last layers of attention and feed-forward."""
    torch.manual_seed(0)
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0} | rates
    block = SToFMBlock(8, heads=2, ffn_channels=64, **rates)
    seen = {}
    for name, module in (("attended", block.self_attn["out_proj"]), ("hidden", block.fc2)):
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    x, pair = torch.randn(6, 8), torch.randn(36, 2)
    out, logits = block(x, graph, pair)
    return {"out": out, "logits": logits, **seen}


@pytest.mark.parametrize(
    ("rate", "first"), [("attention_dropout", "attended"), ("activation_dropout", "hidden"), ("dropout", "out")]
)
def test_each_dropout_has_its_place(graph, rate, first):
    plain, dropped = forward(graph), forward(graph, **{rate: 0.5})
    order = ["logits", "attended", "hidden", "out"]
    for name in order[: order.index(first)]:
        # Dropout of the branches comes after the attention too, so before the feed-forward network.
        if not (rate == "dropout" and name == "hidden"):
            assert torch.equal(plain[name], dropped[name]), name
    assert not torch.equal(plain[first], dropped[first])


def test_activations_are_dropped_after_gelu(graph):
    dropped = forward(graph, activation_dropout=0.5)["hidden"]
    assert 0.3 < (dropped == 0).float().mean() < 0.7


def test_branches_are_dropped_before_the_sum(graph):
    torch.manual_seed(0)
    block = SToFMBlock(8, heads=2, ffn_channels=16, dropout=0.999, attention_dropout=0.0, activation_dropout=0.0)
    x = torch.randn(6, 8)
    out, _ = block(x, graph, torch.zeros(36, 2))
    kept = block.final_layer_norm(block.self_attn_layer_norm(x))
    assert (out - kept).abs().amax(1).min() < 1e-4  # a row of which both branches are gone


@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "activation_dropout"])
def test_every_dropout_is_a_probability(name):
    with pytest.raises(ValueError, match="from 0 to below 1"):
        SToFMBlock(8, heads=2, ffn_channels=16, **{name: 1.0})
