import torch

from stgraph.nn.edge_attention import EdgeGraph, edge_attention
from stgraph.testing.edge_attention import EdgeAttentionContract


class TestReference(EdgeAttentionContract):
    backend = "reference"
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    twice = True

    def test_value_is_what_loops_find(self, graph):
        inputs = self.make_inputs(graph, 3, 5, torch.float64)
        out, logits = edge_attention(*inputs, graph, return_logits=True, backend="reference")
        expected_out, expected_logits = by_loops(*(t.detach() for t in inputs), graph)
        torch.testing.assert_close(out, expected_out)
        torch.testing.assert_close(logits, expected_logits)

    def test_dropout_is_applied_after_the_softmax(self, graph):
        q, k, _, bias = self.make_inputs(graph, dtype=torch.float64)
        ones = torch.ones_like(q)
        weight_sum = edge_attention(q, k, ones, bias, graph, dropout=0.5, backend="reference")
        assert weight_sum.max() > 1.2  # kept weights are doubled, and not made to sum to 1 again

    def test_first_and_second_derivatives(self):
        row, col = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2, 3]), torch.tensor([1, 2, 0, 1, 2, 2, 3, 0, 3])
        graph, _ = EdgeGraph.from_edges(5, row, col, torch.zeros(9), torch.zeros(9, dtype=torch.long))
        inputs = self.make_inputs(graph, 2, 3, torch.float64)
        hidden = torch.zeros_like(inputs[3], dtype=torch.bool)
        hidden[3] = hidden[graph.ptr[2] : graph.ptr[3]] = True
        for bias in (inputs[3], None):

            def attend(q, k, v, *bias):
                torch.manual_seed(0)
                given = bias[0].masked_fill(hidden, -torch.inf) if bias else None
                out, logits = edge_attention(
                    q, k, v, given, graph, dropout=0.3, return_logits=True, backend="reference"
                )
                return out, logits.masked_fill(hidden, 0.0)

            given = inputs[:3] if bias is None else inputs
            assert torch.autograd.gradcheck(attend, given)
            assert torch.autograd.gradgradcheck(attend, given)


def by_loops(q, k, v, bias, graph):
    out, logits = torch.zeros_like(v), torch.zeros_like(bias)
    for i in range(graph.num_nodes):
        edges = list(range(int(graph.ptr[i]), int(graph.ptr[i + 1])))
        for h in range(q.shape[1]):
            for e in edges:
                logits[e, h] = q[i, h] @ k[graph.col[e], h] / q.shape[2] ** 0.5 + bias[e, h]
            for w, e in zip(torch.softmax(logits[edges, h], dim=0), edges, strict=True):
                out[i, h] += w * v[graph.col[e], h]
    return out, logits
