"""Edge attention with the message passing of DGL, an optional extra."""

import torch
from torch import Tensor

from stgraph._dgl import import_dgl
from stgraph.nn.edge_attention.dropout import kept
from stgraph.nn.edge_attention.graph import EdgeGraph
from stgraph.nn.edge_attention.once import once


@torch.compiler.disable  # type: ignore[untyped-decorator]  # It has no meaning for tensors without numbers, which torch.compile traces with.
def dgl_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, graph: EdgeGraph, *, dropout: float, seed: Tensor
) -> tuple[Tensor, Tensor]:
    """`stgraph.nn.edge_attention.edge_attention`, which documents the arguments, by three operations of DGL."""
    dgl = import_dgl()
    # Of its gradients it takes parts for constants.
    q, k, v = (once("dgl", t) for t in (q, k, v))
    bias = None if bias is None else once("dgl", bias)
    exact = torch.promote_types(q.dtype, torch.float32)
    # Its edges are in our order, in the same memory; what it sorts for itself takes no time beside the rest.
    edges = dgl.graph((graph.col, graph.row), num_nodes=graph.num_nodes)
    logits = dgl.ops.v_dot_u(edges, q.to(exact), k.to(exact) * q.shape[-1] ** -0.5).squeeze(-1)
    shown = logits
    if bias is not None:
        logits = logits + bias.to(exact)
        # DGL's softmax of a row in which all is hidden is of nothing: it is taken of equals, and not used.
        shown = logits.clamp_min(torch.finfo(exact).min)
    weight = dgl.ops.edge_softmax(edges, shown[..., None])
    if dropout > 0:
        weight = weight * kept(seed.to(weight.device), graph.num_edges, q.shape[1], dropout)[..., None]
    out = dgl.ops.u_mul_e_sum(edges, v.to(exact), weight)
    if bias is not None:
        visible = torch.zeros_like(out[..., 0]).index_add(0, graph.row, (bias > -torch.inf).to(exact))
        out = out.masked_fill(visible[..., None] == 0, 0.0)
    return out.to(v.dtype), logits
