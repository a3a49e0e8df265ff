import pytest
import torch

from stgraph.nn.edge_attention import EdgeGraph, edge_attention


def random_graph(n=9, density=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    row, col = (torch.rand(n, n, generator=generator) < density).nonzero(as_tuple=True)
    row, col = row[row != 4], col[row != 4]  # node 4 attends to nobody
    shuffled = torch.randperm(len(row), generator=generator)
    kind = torch.zeros(len(row), dtype=torch.long)
    return EdgeGraph.from_edges(n, row[shuffled], col[shuffled], torch.ones(len(row)), kind)[0]


def tensors(graph, heads=3, channels=5, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shape = (graph.num_nodes, heads, channels)
    qkv = [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for _ in range(3)]
    return (*qkv, torch.randn(graph.num_edges, heads, generator=generator, dtype=dtype, requires_grad=True))


def by_loops(q, k, v, bias, graph):
    out = torch.zeros_like(v)
    logits = torch.zeros_like(bias)
    for i in range(graph.num_nodes):
        edges = range(int(graph.ptr[i]), int(graph.ptr[i + 1]))
        for h in range(q.shape[1]):
            for e in edges:
                logits[e, h] = q[i, h] @ k[graph.col[e], h] / q.shape[2] ** 0.5 + bias[e, h]
            if edges:
                weight = torch.softmax(logits[list(edges), h], dim=0)
                out[i, h] = sum(w * v[graph.col[e], h] for w, e in zip(weight, edges, strict=True))
    return out, logits


def test_value_is_what_loops_find():
    graph = random_graph()
    inputs = tensors(graph, dtype=torch.float32)
    out, logits = edge_attention(*inputs, graph)
    expected_out, expected_logits = by_loops(*(t.detach() for t in inputs), graph)
    torch.testing.assert_close(out, expected_out)
    torch.testing.assert_close(logits, expected_logits)
    assert (out[4] == 0).all()


def test_gradients_also_through_the_logits():
    graph = random_graph(n=5)
    q, k, v, bias = tensors(graph, heads=2, channels=3, dtype=torch.float32)

    def scalar(function):
        out, logits = function(q, k, v, bias, graph)
        return (out * torch.arange(out.numel()).view_as(out)).sum() + logits.square().sum()

    expected = torch.autograd.grad(scalar(_dense), (q, k, v, bias))
    found = torch.autograd.grad(scalar(edge_attention), (q, k, v, bias))
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)


def _dense(q, k, v, bias, graph):
    full = torch.full((graph.num_nodes, graph.num_nodes, q.shape[1]), -torch.inf)
    logits = torch.einsum("ihd,jhd->ijh", q, k)[graph.row, graph.col] * q.shape[2] ** -0.5 + bias
    full = full.index_put((graph.row, graph.col), logits)
    weight = torch.softmax(full, dim=1).nan_to_num(0.0)
    return torch.einsum("ijh,jhd->ihd", weight, v), logits


def test_large_logits_do_not_overflow():
    graph = random_graph()
    q, k, v, bias = tensors(graph, dtype=torch.float32)
    out, _ = edge_attention(q, k, v, bias + 1e4, graph)
    torch.testing.assert_close(out, edge_attention(q, k, v, bias, graph)[0], rtol=1e-2, atol=1e-2)


def test_half_precision_in_and_out_float32_between():
    graph = random_graph()
    inputs = tensors(graph, dtype=torch.float32)
    exact = edge_attention(*inputs, graph)[0]
    out, logits = edge_attention(*(t.bfloat16() for t in inputs), graph)
    assert out.dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    torch.testing.assert_close(out.float(), exact, rtol=0.05, atol=0.05)


def test_dropout_keeps_the_mean():
    graph = random_graph()
    inputs = [t.detach() for t in tensors(graph, dtype=torch.float32)]
    torch.manual_seed(0)
    dropped = torch.stack([edge_attention(*inputs, graph, dropout=0.5)[0] for _ in range(2000)])
    assert dropped.std(dim=0).max() > 0.1
    torch.testing.assert_close(dropped.mean(dim=0), edge_attention(*inputs, graph)[0], rtol=0.1, atol=0.1)


def test_edge_lists_are_sorted_stably():
    row, col = torch.tensor([2, 0, 2, 0]), torch.tensor([1, 2, 0, 1])
    graph, order = EdgeGraph.from_edges(3, row, col, torch.arange(4.0), torch.zeros(4, dtype=torch.long))
    assert graph.ptr.tolist() == [0, 2, 2, 4]
    assert order.tolist() == [1, 3, 0, 2]
    assert graph.distance.tolist() == [1.0, 3.0, 0.0, 2.0]


def test_unknown_backend():
    graph = random_graph()
    with pytest.raises(ValueError, match="no backend 'cuda-magic'"):
        edge_attention(*tensors(graph), graph, backend="cuda-magic")
