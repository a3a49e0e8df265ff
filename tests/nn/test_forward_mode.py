import pytest
import torch

from stgraph.nn.distance_bias import GaussianBias, TabulatedBias
from stgraph.nn.edge_attention import edge_attention
from stgraph.nn.forward_mode import refuse_tangents
from stgraph.testing.edge_attention import make_graph


def test_only_tangents_are_refused():
    x = torch.ones(3)

    def function(moved):
        refuse_tangents("it", x, None)
        refuse_tangents("it", x, moved)
        return moved

    refuse_tangents("it", x, None)
    with pytest.raises(RuntimeError, match="it has no forward-mode derivatives"):
        torch.func.jvp(function, (x,), (x,))


def test_fused_attention_and_tables_refuse_them():
    """Their operators would give tangents of zero."""
    graph, x = make_graph("one node"), torch.ones(1, 1, 4)
    with pytest.raises(RuntimeError, match="fused-cpu has no forward-mode derivatives"):
        torch.func.jvp(lambda q: edge_attention(q, x, x, None, graph, backend="fused-cpu"), (x,), (x,))
    table, distance = TabulatedBias(GaussianBias(heads=2)), torch.rand(5)
    with pytest.raises(RuntimeError, match="table of a distance bias has no forward-mode derivatives"):
        torch.func.jvp(lambda d: table(d, torch.zeros(5, dtype=torch.long)), (distance,), (distance,))
