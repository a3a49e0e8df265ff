"""Sequences that lie end to end: where their tokens are, and what stands for each."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Pooling = Literal["max", "mean"]
"""What stands for a sequence: the largest of its tokens, channel by channel, or their mean."""


def positions_of(begin: Tensor, lengths: Tensor) -> Tensor:
    """``begin[i], begin[i] + 1, ...`` for ``lengths[i]`` numbers, one i after another.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.packed_sequences import positions_of
    >>> positions_of(torch.tensor([7, 0, 3]), torch.tensor([2, 0, 3])).tolist()
    [7, 8, 3, 4, 5]
    """
    end = lengths.cumsum(0)
    total = int(end[-1]) if len(end) else 0
    jump = (begin - (end - lengths)).repeat_interleave(lengths, output_size=total)
    return jump + torch.arange(total, device=begin.device)


def pool_sequences(token: Tensor, offsets: Tensor, pooling: Pooling, counts: Tensor | None = None) -> Tensor:
    """(S, C) the largest or the mean state of each sequence, channel by channel; zeros for one without tokens.

    Parameters
    ----------
    token
        (M, C) states of all sequences.
    offsets
        (S + 1,) int64, from 0 to M.
    pooling
        "max" or "mean"; in float32 at least.
    counts
        (M,) bool, which tokens count; None for all.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.packed_sequences import pool_sequences
    >>> x, offsets = torch.tensor([[1.0, 5.0], [3.0, 1.0]]), torch.tensor([0, 2])
    >>> pool_sequences(x, offsets, "max"), pool_sequences(x, offsets, "max", torch.tensor([True, False]))
    (tensor([[3., 5.]]), tensor([[1., 5.]]))
    """
    if counts is not None:
        token, offsets = token[counts], F.pad(counts.cumsum(0), (1, 0))[offsets]
    wide = token.to(torch.promote_types(token.dtype, torch.float32))
    pooled: Tensor = torch.segment_reduce(wide, pooling, offsets=offsets, axis=0)
    return torch.where((offsets.diff() > 0)[:, None], pooled, 0.0)
