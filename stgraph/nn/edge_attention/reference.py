"""Edge attention in plain PyG operations: gather, softmax by row, scatter."""

import torch.nn.functional as F
from torch import Tensor
from torch_geometric.utils import softmax

from stgraph.nn.edge_attention.graph import EdgeGraph


def reference(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, graph: EdgeGraph, *, dropout: float
) -> tuple[Tensor, Tensor]:
    """The meaning of `stgraph.nn.edge_attention.edge_attention`, which documents the arguments."""
    scale = q.shape[-1] ** -0.5
    # index_select, for the gradient of plain indexing adds in an order that changes from run to run.
    q, k, messages = q.index_select(0, graph.row), k.index_select(0, graph.col), v.index_select(0, graph.col)
    scores = (q * k).sum(dim=-1).float() * scale
    logits = scores + bias.float()
    weight = softmax(logits, ptr=graph.ptr, num_nodes=graph.num_nodes)
    weight = F.dropout(weight, p=dropout, training=dropout > 0)
    message = weight[..., None] * messages.float()
    out = message.new_zeros(graph.num_nodes, *v.shape[1:]).index_add(0, graph.row, message)
    return out.to(v.dtype), logits
