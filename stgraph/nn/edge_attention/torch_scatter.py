"""Edge attention with the segment operations of torch-scatter, an optional extra: gather, softmax by row, sum."""

import torch
from torch import Tensor
from torch_scatter import gather_csr, segment_csr

from stgraph.nn.edge_attention.dropout import kept
from stgraph.nn.edge_attention.graph import EdgeGraph
from stgraph.nn.edge_attention.once import once
from stgraph.nn.edge_attention.reference import reference


@torch.compiler.disable  # type: ignore[untyped-decorator]  # It has no meaning for tensors without numbers, which torch.compile traces with.
def torch_scatter_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, graph: EdgeGraph, *, dropout: float, seed: Tensor
) -> tuple[Tensor, Tensor]:
    """`stgraph.nn.edge_attention.edge_attention`, which documents the arguments, over rows by their pointers."""
    if graph.num_edges == 0:  # Of no segments torch-scatter returns memory as it finds it.
        return reference(q, k, v, bias, graph, dropout=dropout, seed=seed)
    # Of its gradients it takes parts for constants.
    q, k, v = (once("torch-scatter", t) for t in (q, k, v))
    bias = None if bias is None else once("torch-scatter", bias)
    exact = torch.promote_types(q.dtype, torch.float32)
    k, values = (t.to(exact).index_select(0, graph.col) for t in (k, v))
    logits = (gather_csr(q.to(exact).contiguous(), graph.ptr) * k).sum(dim=-1) * q.shape[-1] ** -0.5
    if bias is not None:
        logits = logits + bias.to(exact)
    largest = segment_csr(logits.detach(), graph.ptr, reduce="max")
    largest = largest.masked_fill(largest == -torch.inf, 0.0)
    weight = torch.exp(logits - gather_csr(largest, graph.ptr))
    norm = segment_csr(weight, graph.ptr)
    weight = weight / gather_csr(norm.masked_fill(norm == 0, 1.0), graph.ptr)
    if dropout > 0:
        weight = weight * kept(seed.to(weight.device), graph.num_edges, weight.shape[1], dropout)
    return segment_csr(weight[..., None] * values, graph.ptr).to(v.dtype), logits
