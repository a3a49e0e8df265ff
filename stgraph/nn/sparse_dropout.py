"""Dropout that draws only what is dropped: on a CPU random numbers cost more than the layer they disturb."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_SPARSE = 0.25
"""Rate above which a number for each element is drawn after all: there the gaps are no longer the quicker way."""


def sparse_dropout(x: Tensor, rate: float, training: bool = True) -> Tensor:
    """Zero each element with probability ``rate``, and divide the others by ``1 - rate``.

    The same distribution as that of ``torch.nn.functional.dropout``, not the same draw. On a CPU the gaps between
    dropped elements are drawn, which are geometric: at a rate of 2 % that is a fiftieth of the random numbers, and for
    the backward pass the dropped places are kept rather than a mask. Elsewhere it is torch's own.

    Parameters
    ----------
    x
        Any shape.
    rate
        From 0 to below 1.
    training
        Otherwise ``x`` is given back as it is.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.sparse_dropout import sparse_dropout
    >>> sparse_dropout(torch.ones(1000), 0.2).unique().tolist()
    [0.0, 1.25]
    """
    if not training or rate == 0 or x.numel() == 0:
        return x
    if not is_sparse(x, rate):
        return F.dropout(x, rate)
    return zero_at(x, dropped(x.numel(), rate), rate)


def is_sparse(x: Tensor, rate: float) -> bool:
    """Whether drawing gaps is the quicker way for this tensor."""
    return x.device.type == "cpu" and rate <= _SPARSE


def zero_at(x: Tensor, at: Tensor, rate: float) -> Tensor:
    """Zero the elements numbered ``at``, and divide the others by ``1 - rate``.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.sparse_dropout import zero_at
    >>> zero_at(torch.ones(2, 2), torch.tensor([1, 2]), 0.5)
    tensor([[2., 0.],
            [0., 2.]])
    """
    out: Tensor = _ZeroAt.apply(x, at, 1 / (1 - rate))  # type: ignore[no-untyped-call]
    return out


def dropped(n: int, rate: float) -> Tensor:
    """Which of n elements are dropped, each with probability ``rate``, ascending; from torch's default generator.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.sparse_dropout import dropped
    >>> bool((dropped(1000, 0.1).diff() > 0).all())
    True
    """
    at = torch.empty(0, dtype=torch.float64)
    last = -1.0
    while last < n:
        # As many as are needed nearly always: the mean of a binomial number and six standard deviations.
        expected = (n - last) * rate
        gaps = torch.empty(int(expected + 6 * math.sqrt(expected)) + 8, dtype=torch.float64).exponential_()
        at = torch.cat([at, gaps.div_(-math.log1p(-rate)).floor_().add_(1).cumsum_(0).add_(last)])
        last = float(at[-1])
    return at[: int(torch.searchsorted(at, float(n)))].long()


class _ZeroAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, at: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(at)
        ctx.scale = scale
        return _zeroed(x, at, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _zeroed(grad, ctx.saved_tensors[0], ctx.scale), None, None


def _zeroed(x: Tensor, at: Tensor, scale: float) -> Tensor:
    out = torch.mul(x.contiguous(), scale)
    out.view(-1).index_fill_(0, at, 0.0)
    return out
