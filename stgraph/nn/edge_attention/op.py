"""The public operator."""

from typing import Literal

from torch import Tensor

from stgraph.nn.edge_attention.graph import EdgeGraph
from stgraph.nn.edge_attention.reference import reference


def edge_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    graph: EdgeGraph,
    *,
    dropout: float = 0.0,
    backend: Literal["auto", "reference"] = "auto",
) -> tuple[Tensor, Tensor]:
    """Multi-head attention of each node over the nodes its edges come from.

    For an edge e from j to i and head h, ``logit = q_i . k_j / sqrt(D) + bias_e``; the
    output of i is the mean of ``v_j`` weighted by the softmax of the logits over the
    edges of i. A node without edges gets zero.

    Parameters
    ----------
    q, k, v
        (N, H, D) queries, keys and values.
    bias
        (E, H) added to the logits; edges in the order of ``graph``.
    graph
        Edges sorted by target.
    dropout
        Probability that an attention weight is dropped.
    backend
        ``"reference"``: plain PyG operations. ``"auto"`` picks the fastest there is.

    Returns
    -------
    out : Tensor
        (N, H, D), in the type of ``v``.
    logits : Tensor
        (E, H) float32, before the softmax: the pair state of the next layer.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.edge_attention import EdgeGraph, edge_attention
    >>> row, col, one = torch.tensor([0, 0]), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.long)
    >>> graph, _ = EdgeGraph.from_edges(2, row, col, torch.zeros(2), one)
    >>> x = torch.tensor([[[1.0]], [[3.0]]])
    >>> edge_attention(torch.zeros(2, 1, 1), x, x, torch.zeros(2, 1), graph)[0].flatten()
    tensor([2., 0.])
    """
    if backend not in ("auto", "reference"):
        raise ValueError(f"There is no backend {backend!r} of edge_attention; there are 'auto' and 'reference'.")
    return reference(q, k, v, bias, graph, dropout=dropout)
