import subprocess
import sys

import pytest
import torch

from stgraph.nn.edge_attention import edge_attention
from stgraph.testing.edge_attention import EdgeAttentionContract, make_graph


class TestAutoOnEdges(EdgeAttentionContract):
    backend = "auto"
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class TestAutoOnAllPairs(TestAutoOnEdges):
    twice = True

    @pytest.fixture
    def graph(self):
        return self.make_graph("parts")


@pytest.fixture
def graph():
    return make_graph("random")


@pytest.fixture
def inputs(graph):
    generator = torch.Generator().manual_seed(1)
    shapes = [(graph.num_nodes, 3, 5)] * 3 + [(graph.num_edges, 3)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_types_are_promoted_and_the_output_is_as_the_values(graph, inputs):
    q, k, v, bias = inputs
    out, logits = edge_attention(q.half(), k, v.bfloat16(), bias, graph, return_logits=True)
    assert (out.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    expected, _ = edge_attention(q.half().float(), k, v.bfloat16().float(), bias, graph, return_logits=True)
    torch.testing.assert_close(out, expected.bfloat16(), rtol=1e-2, atol=1e-2)
    assert edge_attention(q, k.double(), v, bias, graph, return_logits=True)[1].dtype == torch.float64


def test_dropout_keeps_the_mean(graph, inputs):
    torch.manual_seed(0)
    dropped = torch.stack([edge_attention(*inputs, graph, dropout=0.5) for _ in range(2000)])
    assert dropped.std(dim=0).max() > 0.1
    torch.testing.assert_close(dropped.mean(dim=0), edge_attention(*inputs, graph), rtol=0.1, atol=0.1)


def test_no_dropout_draws_nothing(graph, inputs):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    edge_attention(*inputs, graph)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_is_a_probability(graph, inputs, dropout):
    with pytest.raises(ValueError, match="dropout must be from 0 to below 1"):
        edge_attention(*inputs, graph, dropout=dropout)


def test_shapes_must_fit(graph, inputs):
    q, k, v, bias = inputs
    for wrong in ((q[:-1], k, v), (q, k[:, :2], v), (q, k, v[..., :4]), (q[:, 0], k[:, 0], v[:, 0])):
        with pytest.raises(ValueError, match=r"needs q, k and v of shape \(N, H, D\) for the 23 nodes"):
            edge_attention(*wrong, bias, graph)
    for wrong in (bias[:-1], bias[:, :2], bias[:, :1]):
        with pytest.raises(ValueError, match=r"bias must be of shape \(E, H\)"):
            edge_attention(q, k, v, wrong, graph)


def test_there_is_a_head_and_a_channel(graph, inputs):
    q, k, v, _ = inputs
    for wrong in ([t[:, :0] for t in (q, k, v)], [t[..., :0] for t in (q, k, v)]):
        with pytest.raises(ValueError, match="at least one head and one channel"):
            edge_attention(*wrong, None, graph)


@pytest.mark.parametrize("at", range(4))
def test_integers_and_masks_are_refused(graph, inputs, at):
    """A mask of SDPA, True for what is seen, would be a bias of 1."""
    for dtype in (torch.bool, torch.int64):
        wrong = [t.to(dtype) if place == at else t for place, t in enumerate(inputs)]
        for backend in ("auto", "reference"):
            with pytest.raises(ValueError, match=rf"floating point, not .*{dtype}.*minus infinity"):
                edge_attention(*wrong, graph, backend=backend)


def test_dropout_is_drawn_on_the_cpu_whatever_the_default_device(graph, inputs):
    torch.manual_seed(0)
    expected = edge_attention(*inputs, graph, dropout=0.5)
    torch.manual_seed(0)
    with torch.device("meta"):
        found = edge_attention(*inputs, graph, dropout=0.5)
        edge_attention(*inputs, graph)
    assert torch.equal(found, expected)


def test_the_operator_goes_by_the_name_of_its_package():
    """In a process of its own: pytest puts modules where it finds them."""
    code = (
        "import torch, stgraph.nn\n"
        "import stgraph.nn.edge_attention.reference\n"
        "from stgraph.nn.edge_attention.backends import run\n"
        "graph = stgraph.nn.EdgeGraph.complete([2], torch.zeros(4), torch.zeros(4, dtype=torch.long))\n"
        "x = torch.ones(2, 1, 3)\n"
        "print(stgraph.nn.edge_attention(x, x, x, None, graph).sum().item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "6.0"
