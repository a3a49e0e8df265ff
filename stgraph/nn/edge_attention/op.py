"""The public operator."""

from typing import Literal, overload

import torch
from torch import Tensor

from stgraph.nn.edge_attention.backends import Backend, backend_for, run
from stgraph.nn.edge_attention.dropout import draw_seed
from stgraph.nn.edge_attention.graph import EdgeGraph


@overload
def edge_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    graph: EdgeGraph,
    *,
    dropout: float = ...,
    return_logits: Literal[False] = ...,
    backend: Backend = ...,
) -> Tensor: ...


@overload
def edge_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    graph: EdgeGraph,
    *,
    dropout: float = ...,
    return_logits: Literal[True],
    backend: Backend = ...,
) -> tuple[Tensor, Tensor]: ...


def edge_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    graph: EdgeGraph,
    *,
    dropout: float = 0.0,
    return_logits: bool = False,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Multi-head attention of each node over the nodes its edges come from.

    For an edge e from j to i and head h, ``logit = q_i . k_j / sqrt(D) + bias_e``; the
    output of i is the mean of ``v_j`` weighted by the softmax of the logits over the
    edges of i. A node without edges gets zero. A bias of minus infinity hides an edge.

    Parameters
    ----------
    q, k, v
        (N, H, D) queries, keys and values: float32, bfloat16 or float16, with sums in float32; the reference
        takes float64 as well.
    bias
        (E, H) added to the logits; edges in the order of ``graph``. None adds nothing.
    graph
        Edges sorted by target.
    dropout
        Probability that an attention weight is dropped, from 0 to below 1. Which ones is a function of a seed
        drawn from torch's generator on the CPU, the same for every backend.
    return_logits
        Whether the logits are wanted as well: the pair state of the next layer. Gradients go through them.
    backend
        What computes it; all agree. ``"auto"`` takes the fastest there is for the device, the type and the
        graph; ``stgraph doctor`` tells which are there.

    Returns
    -------
    out : Tensor
        (N, H, D), in the type of ``v``.
    logits : Tensor
        (E, H) float32 before the softmax, float64 where ``q`` is; only if ``return_logits``.

    Raises
    ------
    ValueError
        If shapes or types do not fit, dropout is no probability, or there is no such backend or it does not run here.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.edge_attention import EdgeGraph, edge_attention
    >>> row, col, one = torch.tensor([0, 0]), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.long)
    >>> graph, _ = EdgeGraph.from_edges(2, row, col, torch.zeros(2), one)
    >>> x = torch.tensor([[[1.0]], [[3.0]]])
    >>> edge_attention(torch.zeros(2, 1, 1), x, x, None, graph).flatten()
    tensor([2., 0.])
    """
    _check(q, k, v, bias, graph, dropout)
    common = torch.promote_types(torch.promote_types(q.dtype, k.dtype), v.dtype)
    q, k = q.to(common), k.to(common)
    seed = draw_seed() if dropout > 0 else torch.zeros((), dtype=torch.int64, device="cpu")
    chosen = backend_for(common, graph) if backend == "auto" else backend
    out, logits = run(chosen, q, k, v.to(common), bias, graph, dropout=dropout, seed=seed, need_logits=return_logits)
    return (out.to(v.dtype), logits) if return_logits else out.to(v.dtype)


def _check(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, graph: EdgeGraph, dropout: float) -> None:
    if q.dim() != 3 or q.shape[0] != graph.num_nodes or not q.shape == k.shape == v.shape:
        raise ValueError(
            f"edge_attention needs q, k and v of shape (N, H, D) for the {graph.num_nodes} nodes of the graph, not "
            f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}."
        )
    if bias is not None and bias.shape != (graph.num_edges, q.shape[1]):
        raise ValueError(
            f"The bias must be of shape (E, H), here {(graph.num_edges, q.shape[1])}, not {tuple(bias.shape)}."
        )
    if 0 in q.shape[1:]:
        raise ValueError(f"edge_attention needs at least one head and one channel, not (N, H, D) of {tuple(q.shape)}.")
    kinds = [t.dtype for t in (q, k, v, bias) if t is not None]
    if not all(kind.is_floating_point for kind in kinds):  # A mask of True and False would count as 1 and 0.
        raise ValueError(
            f"edge_attention needs numbers of floating point, not {', '.join(map(str, kinds))}; what hides an edge is "
            "a bias of minus infinity."
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be from 0 to below 1, not {dropout}.")
