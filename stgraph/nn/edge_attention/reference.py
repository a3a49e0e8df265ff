"""Edge attention in plain PyG operations: gather, softmax by row, scatter. What all backends are measured by."""

import torch
from torch import Tensor
from torch_geometric.utils import scatter

from stgraph.nn.edge_attention.dropout import kept
from stgraph.nn.edge_attention.graph import EdgeGraph


def reference(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, graph: EdgeGraph, *, dropout: float, seed: Tensor
) -> tuple[Tensor, Tensor]:
    """The meaning of `stgraph.nn.edge_attention.edge_attention`, which documents the arguments."""
    exact = torch.promote_types(q.dtype, torch.float32)
    # index_select, for the gradient of plain indexing adds in an order that changes from run to run.
    q, k, values = (t.index_select(0, i).to(exact) for t, i in ((q, graph.row), (k, graph.col), (v, graph.col)))
    logits = (q * k).sum(dim=-1) * q.shape[-1] ** -0.5
    if bias is not None:
        logits = logits + bias.to(exact)
    weight = _softmax(logits, graph)
    if dropout > 0:
        weight = weight * kept(seed.to(weight.device), graph.num_edges, weight.shape[1], dropout)
    out = values.new_zeros(graph.num_nodes, *v.shape[1:]).index_add(0, graph.row, weight[..., None] * values)
    return out.to(v.dtype), logits


def _softmax(logits: Tensor, graph: EdgeGraph) -> Tensor:
    """Over the edges of each row; zero where a logit is minus infinity, in a row of nothing else as well."""
    largest = scatter(logits.detach(), graph.row, dim=0, dim_size=graph.num_nodes, reduce="max")
    largest = largest.masked_fill(largest == -torch.inf, 0.0)
    weight = torch.exp(logits - largest.index_select(0, graph.row))
    norm = weight.new_zeros(graph.num_nodes, weight.shape[1]).index_add(0, graph.row, weight)
    return weight / norm.masked_fill(norm == 0, 1.0).index_select(0, graph.row)
