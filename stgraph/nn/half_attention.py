"""Attention in bfloat16 on a CPU, block by block of queries."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_WEIGHTS_AT_ONCE = 1 << 20
"""Attention weights of one block: two megabytes."""

_LEAST_QUERIES = 128

_LEAST_WEIGHTS = 1 << 14
"""Weights of a sequence from which on the many steps are worth their while."""

Sizes = tuple[tuple[int, int, int], ...]


def half_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of bfloat16 queries on the keys of one sequence; memory is linear in their number.

    torch's own attention on a CPU is as fast in bfloat16 as in float32, while products of matrices are four times as
    fast. Here a block of queries goes through products as large as the cache allows, and once more backwards, where its
    weights are computed again rather than kept. Logits are rounded to bfloat16, as those of attention written out
    under autocast; sums over blocks are float32.

    Parameters
    ----------
    query
        (H, Q, D) bfloat16.
    key, value
        (H, K, D) bfloat16.

    Returns
    -------
    Tensor
        (H, Q, D) bfloat16.

    References
    ----------
    Rabe and Staats, Self-attention does not need O(n²) memory (2021).

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.half_attention import half_attention
    >>> x = torch.randn(2, 5, 8, dtype=torch.bfloat16)
    >>> exact = torch.nn.functional.scaled_dot_product_attention(x.float(), x.float(), x.float())
    >>> torch.allclose(half_attention(x, x, x).float(), exact, atol=0.05)
    True
    """
    if not query.shape[1] or not key.shape[1]:
        return torch.zeros_like(query)
    out: Tensor = _HalfAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
    return out


def is_halved(query: Tensor, sizes: Sizes) -> bool:
    """Whether these sequences are better off here than in torch's own attention: bfloat16 on a CPU, and not short.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.half_attention import is_halved
    >>> is_halved(torch.zeros(1000, 2, 8), ((1, 1000, 1000),))
    False
    """
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and sum(n * a * b for n, a, b in sizes) >= _LEAST_WEIGHTS * sum(n for n, _, _ in sizes) > 0
    )


def grouped_half_attention(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes) -> Tensor:
    """`half_attention` in each of many sequences, as `stgraph.nn.packed_attention.grouped_attention` has them.

    Parameters
    ----------
    query, key, value
        (T, H, D) and (T2, H, D) bfloat16, in the order of their groups.
    sizes
        Of `stgraph.nn.packed_attention.SequenceGroups`.

    Returns
    -------
    Tensor
        (T, H, D) bfloat16; zeros for queries whose sequence has no keys.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.half_attention import grouped_half_attention
    >>> x = torch.randn(8, 2, 8, dtype=torch.bfloat16)
    >>> grouped_half_attention(x, x, x, ((2, 3, 3), (1, 2, 2))).shape
    torch.Size([8, 2, 8])
    """
    lengths = [(a, b) for n, a, b in sizes for _ in range(n)]
    # Contiguous by head, once for all sequences
    queries = torch.split(query.transpose(0, 1).contiguous(), [a for a, _ in lengths], dim=1)
    keys, values = (torch.split(t.transpose(0, 1).contiguous(), [b for _, b in lengths], dim=1) for t in (key, value))
    out = [half_attention(q, k, v) for q, k, v in zip(queries, keys, values, strict=True)]
    return torch.cat(out, dim=1).transpose(0, 1) if out else query


class _HalfAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query = query * query.shape[-1] ** -0.5
        ctx.save_for_backward(query, key, value)
        turned = key.transpose(1, 2)
        out, space = torch.empty_like(query), _Space(query, key, 2)
        for rows in space.blocks:
            torch.bmm(space.weights(query[:, rows], turned), value, out=out[:, rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = ctx.saved_tensors
        turned_key, turned_value = key.transpose(1, 2), value.transpose(1, 2)
        of_query, space = torch.empty_like(query), _Space(query, key, 3)
        # Of keys and values turned, (H, D, K): a small matrix from the left is the quicker way.
        of_key, of_value = (torch.zeros(t.shape, dtype=torch.float32) for t in (turned_key, turned_value))
        for rows in space.blocks:
            q, g = query[:, rows], grad[:, rows]
            weight = space.weights(q, turned_key)
            of_value += torch.bmm(g.transpose(1, 2), weight).float()
            of_weight = torch.bmm(g, turned_value, out=space.view(0, len(q[0])))
            of_logit = torch.ops.aten._softmax_backward_data.out(
                of_weight, weight, -1, weight.dtype, grad_input=space.view(2, len(q[0]))
            )
            torch.bmm(of_logit, key, out=of_query[:, rows])
            of_key += torch.bmm(q.transpose(1, 2), of_logit).float()
        of_query *= query.shape[-1] ** -0.5
        return of_query, of_key.to(key.dtype).transpose(1, 2), of_value.to(value.dtype).transpose(1, 2)


class _Space:
    """Room for the weights of a block, used again for each: to get it from the system takes longer than to fill it."""

    def __init__(self, query: Tensor, key: Tensor, count: int) -> None:
        heads, queries, _ = query.shape
        most = min(queries, max(_LEAST_QUERIES, _WEIGHTS_AT_ONCE // max(1, heads * key.shape[1])))
        self.room = query.new_empty(count, heads * most * key.shape[1])
        self.heads, self.keys = heads, key.shape[1]
        self.blocks = [slice(begin, begin + most) for begin in range(0, queries, most)]

    def view(self, number: int, queries: int) -> Tensor:
        """(H, queries, K) of that number, whatever is in it."""
        return self.room[number, : self.heads * queries * self.keys].view(self.heads, queries, self.keys)

    def weights(self, query: Tensor, turned_key: Tensor) -> Tensor:
        """(H, Q, K) of a block, in number 1; number 0 has its logits."""
        logits, weights = self.view(0, query.shape[1]), self.view(1, query.shape[1])
        torch.bmm(query, turned_key, out=logits)
        return torch.softmax(logits, -1, out=weights)
