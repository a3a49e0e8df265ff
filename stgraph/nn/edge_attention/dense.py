"""Edge attention over all pairs of each part, by matrix products."""

from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from stgraph.nn.edge_attention.dropout import kept
from stgraph.nn.edge_attention.graph import EdgeGraph


def dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    graph: EdgeGraph,
    *,
    dropout: float,
    seed: Tensor,
    need_logits: bool = True,
) -> tuple[Tensor, Tensor]:
    """`stgraph.nn.edge_attention.edge_attention`, which documents the arguments, on a graph of all pairs.

    Parts of equal size that follow each other make one batch. Without ``need_logits`` and dropout it is torch's
    scaled dot-product attention, and the logits are those of no edge, (0, H).
    """
    if graph.blocks is None:
        raise ValueError(
            "dense attends over all pairs of each part: make the graph with EdgeGraph.complete, "
            "or take the backend 'auto'."
        )
    exact = torch.promote_types(q.dtype, torch.float32)
    _, heads, channels = q.shape
    # Heads come first throughout: logits (E, H) are a view of (H, E), and as the next bias they need not be moved.
    by_head = [t.to(exact).transpose(0, 1) for t in (q, k, v)]
    biases = None if bias is None else bias.to(exact).t().contiguous()
    keeps = kept(seed.to(q.device), graph.num_edges, heads, dropout).to(exact).t() if dropout > 0 else None
    outs, logits = [], []
    node = edge = 0
    with torch.autocast(q.device.type, enabled=False):
        for size, parts in groupby(graph.blocks or (0,)):
            count = len(list(parts))
            nodes, edges = slice(node, node + count * size), slice(edge, edge + count * size**2)
            node, edge = nodes.stop, edges.stop
            q_p, k_p, v_p = (t[:, nodes].view(heads, count, size, channels) for t in by_head)
            bias_p, keep_p = (
                None if t is None else t[:, edges].view(heads, count, size, size) for t in (biases, keeps)
            )
            if need_logits or keep_p is not None:
                out, of_part = _products(q_p, k_p, v_p, bias_p, keep_p)
                logits.append(of_part.flatten(1))
            else:
                out = scaled_dot_product_attention(q_p, k_p, v_p, attn_mask=bias_p)
            outs.append(out.flatten(1, 2))
    out = _joined(outs).transpose(0, 1).to(v.dtype)
    return out, _joined(logits).t() if logits else by_head[0].new_empty(0, heads)


def _joined(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def _products(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output (H, B, n, D) and logits (H, B, n, n) of B parts of n nodes."""
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if bias is not None:
        logits = logits + bias
    hidden = None if bias is None or not bias.numel() else _hidden_rows(logits.detach())
    # Where a row has nothing to see the softmax is taken of equals, and not used.
    shown = logits if hidden is None else logits.clamp_min(torch.finfo(logits.dtype).min)
    weight = torch.softmax(shown, dim=-1)
    out = (weight if keep is None else weight * keep) @ v
    return (out if hidden is None else out.masked_fill(hidden, 0.0)), logits


def _hidden_rows(logits: Tensor) -> Tensor | None:
    """(H, B, n, 1) whether all of a row is hidden; None if it is known that there is no such row."""
    hidden = logits.amax(dim=-1, keepdim=True) == -torch.inf
    # Only the CPU can look at numbers without being waited for, and not while torch.compile traces.
    known = logits.device.type == "cpu" and not torch.compiler.is_compiling()
    return None if known and not hidden.any() else hidden
