import pytest
import torch

from stgraph.nn.edge_attention import EdgeGraph
from stgraph.nn.se2_block import SE2Block
from stgraph.nn.stofm_block import SToFMBlock


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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heads": 0}, r"multiple of heads \(0\)"),
        ({"channels": 0}, r"channels \(0\)"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1, not 1.0"),
        ({"backend": "fused_cpu"}, "no backend 'fused_cpu'.*'fused-cpu'"),
    ],
)
def test_arguments_are_checked_before_anything_runs(wrong, message):
    for block in (SE2Block, SToFMBlock):
        with pytest.raises(ValueError, match=message):
            block(**{"channels": 8, "heads": 4, "ffn_channels": 8, **wrong})


def test_norm_is_pre_or_post():
    with pytest.raises(ValueError, match="norm must be 'pre' or 'post', not 'none'"):
        SE2Block(8, heads=4, ffn_channels=8, norm="none")


def test_weights_of_saved_models_keep_their_names():
    names = {name.rpartition(".")[0] for name in SE2Block(8, heads=2, ffn_channels=16).state_dict()}
    assert names == {"norm_attention", "qkv", "out", "norm_ffn", "ffn.0", "ffn.2"}


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_where_the_norms_stand(graph, norm):
    torch.manual_seed(0)
    block = SE2Block(8, heads=2, ffn_channels=16, norm=norm, backend="reference").eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    x, pair = torch.randn(6, 8), torch.randn(36, 2)

    def attended(x):
        q, k, v = block.qkv(x).view(6, 3, 2, 4).unbind(1)
        weight = (torch.einsum("ihd,jhd->ijh", q, k) / 2 + pair.view(6, 6, 2)).softmax(1)
        return block.out(torch.einsum("ijh,jhd->ihd", weight, v).reshape(6, 8))

    if norm == "pre":
        middle = x + attended(block.norm_attention(x))
        expected = middle + block.ffn(block.norm_ffn(middle))
    else:
        middle = block.norm_attention(x + attended(x))
        expected = block.norm_ffn(middle + block.ffn(middle))
    torch.testing.assert_close(block(x, graph, pair)[0], expected)


@pytest.mark.parametrize("backend", ["dense", "fused-cpu", "reference"])
def test_the_backend_is_the_one_asked_for(graph, backend, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "stgraph.nn.se2_block.edge_attention",
        lambda q, k, v, pair, graph, **options: asked.append(options["backend"]) or (v, pair),
    )
    SE2Block(8, heads=2, ffn_channels=16, backend=backend)(torch.randn(6, 8), graph, torch.randn(36, 2))
    assert asked == [backend]
