import pytest
import torch

from stgraph.nn.edge_attention import EdgeGraph
from stgraph.nn.se2_block import SE2Block


@pytest.fixture
def graph():
    row, col = torch.ones(6, 6).nonzero(as_tuple=True)
    return EdgeGraph.from_edges(6, row, col, torch.ones(36), torch.zeros(36, dtype=torch.long))[0]


def test_logits_become_the_pair_state(graph):
    torch.manual_seed(0)
    block = SE2Block(8, heads=2, ffn_channels=16).eval()
    x, pair = torch.randn(6, 8), torch.randn(36, 2)
    _, logits = block(x, graph, pair)
    q, k, _ = block.qkv(block.norm_attention(x)).view(6, 3, 2, 4).unbind(1)
    scores = torch.einsum("ihd,jhd->ijh", q, k).reshape(36, 2) / 2
    torch.testing.assert_close(logits, scores + pair)


def test_dropout_only_in_training(graph):
    torch.manual_seed(0)
    block = SE2Block(8, heads=2, ffn_channels=16, dropout=0.5)
    x, pair = torch.randn(6, 8), torch.randn(36, 2)
    assert not torch.equal(block(x, graph, pair)[0], block(x, graph, pair)[0])
    block.eval()
    assert torch.equal(block(x, graph, pair)[0], block(x, graph, pair)[0])


def test_dropout_reaches_the_attention_weights(graph):
    torch.manual_seed(0)
    block = SE2Block(8, heads=2, ffn_channels=16, dropout=0.5)
    seen = []
    block.out.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, pair = torch.randn(6, 8), torch.zeros(36, 2)
    for _ in range(2):
        block(x, graph, pair)
    assert not torch.equal(*seen)


def test_channels_must_fit_heads():
    with pytest.raises(ValueError, match="multiple of heads"):
        SE2Block(10, heads=4, ffn_channels=8)
