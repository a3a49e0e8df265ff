from dataclasses import replace

import pytest
import torch

from stgraph.nn.edge_attention import EdgeGraph
from stgraph.testing.edge_attention import COMPLETE_GRAPHS, SPARSE_GRAPHS, make_graph


def test_edge_lists_are_sorted_stably():
    row, col = torch.tensor([2, 0, 2, 0]), torch.tensor([1, 2, 0, 1])
    graph, order = EdgeGraph.from_edges(3, row, col, torch.arange(4.0), torch.arange(4))
    assert graph.ptr.tolist() == [0, 2, 2, 4]
    assert order.tolist() == [1, 3, 0, 2]
    assert graph.distance.tolist() == [1.0, 3.0, 0.0, 2.0]
    assert graph.edge_type.tolist() == [1, 3, 0, 2]
    assert (graph.num_nodes, graph.num_edges) == (3, 4)


@pytest.mark.parametrize("kind", SPARSE_GRAPHS + COMPLETE_GRAPHS)
def test_pointers_and_their_transposed(kind):
    graph = make_graph(kind)
    n, e = graph.num_nodes, graph.num_edges
    for i in range(n):
        assert (graph.row[graph.ptr[i] : graph.ptr[i + 1]] == i).all()
    col_ptr, by_col = graph.transposed
    assert by_col.sort().values.tolist() == list(range(e))
    for j in range(n):
        edges = by_col[col_ptr[j] : col_ptr[j + 1]]
        assert (graph.col[edges] == j).all()
        assert edges.tolist() == sorted(edges.tolist())
    for ptr in (graph.ptr, col_ptr):
        assert (len(ptr), ptr[0], ptr[-1]) == (n + 1, 0, e)
        assert ptr.dtype == torch.int64
    assert graph.transposed[1] is by_col


def test_a_transposed_graph_of_inference_can_be_trained_with():
    graph = make_graph("random")
    with torch.inference_mode():
        assert not any(t.is_inference() for t in graph.transposed)


def test_a_changed_copy_is_transposed_anew():
    graph = make_graph("random")
    assert graph.transposed is graph.transposed
    other = replace(graph, col=graph.col.flip(0))
    assert not torch.equal(other.transposed[1], graph.transposed[1])


@pytest.mark.parametrize("edge", [(0, 3), (3, 0), (-1, 0), (0, -1)])
def test_edges_join_nodes_that_are_there(edge):
    row, col = (torch.tensor([0, end]) for end in edge)
    with pytest.raises(ValueError, match="Edges of 3 nodes join numbers from 0 to 2"):
        EdgeGraph.from_edges(3, row, col, torch.zeros(2), torch.zeros(2, dtype=torch.long))


def test_edge_lists_must_fit_each_other():
    """None is cut off to the length of another."""
    lists = [torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]), torch.zeros(3), torch.zeros(3, dtype=torch.long)]
    for at in range(4):
        for wrong in (lists[at][:2], lists[at].repeat(2), lists[at][:, None]):
            with pytest.raises(ValueError, match=r"same length \(E,\), not of shapes"):
                EdgeGraph.from_edges(3, *[wrong if place == at else t for place, t in enumerate(lists)])
    with pytest.raises(ValueError, match="same length"):
        EdgeGraph.from_edges(3, *[t[None] for t in lists])
    for at in (0, 1, 3):
        for dtype in (torch.float32, torch.bool):
            with pytest.raises(ValueError, match=f"must be integers, not .*{dtype}"):
                EdgeGraph.from_edges(3, *[t.to(dtype) if place == at else t for place, t in enumerate(lists)])
    graph, _ = EdgeGraph.from_edges(3, *[t if t.is_floating_point() else t.int() for t in lists])
    assert {graph.row.dtype, graph.col.dtype, graph.edge_type.dtype, graph.ptr.dtype} == {torch.int64}


def test_all_pairs_of_parts():
    graph = make_graph("parts")
    expected = torch.block_diag(*(torch.ones(n, n) for n in graph.blocks))
    assert torch.equal(torch.stack([graph.row, graph.col]), expected.nonzero().t())
    assert graph.ptr.diff().tolist() == [n for n in graph.blocks for _ in range(n)]


def test_all_pairs_must_have_distances():
    with pytest.raises(ValueError, match=r"Parts of \[2, 3\] nodes have 13 pairs, but there are 12 distances"):
        EdgeGraph.complete([2, 3], torch.zeros(12), torch.zeros(13, dtype=torch.long))
