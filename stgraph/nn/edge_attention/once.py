"""Refusing gradients of gradients where a package would give wrong ones."""

from typing import Any

import torch
from torch import Tensor


def once(backend: str, tensor: Tensor) -> Tensor:
    """The same tensor; a backward pass through it that is to be differentiated again is an error.

    Parameters
    ----------
    backend
        Who has no such gradients, for the message.
    tensor
        Input of what can be differentiated once.

    Returns
    -------
    Tensor
        A view of it.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.edge_attention.once import once
    >>> x = torch.ones(1, requires_grad=True)
    >>> torch.autograd.grad(once("dgl", x).square(), x)
    (tensor([2.]),)
    """
    same: Tensor = _Once.apply(tensor, backend)  # type: ignore[no-untyped-call]
    return same


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, backend: str) -> Tensor:
        ctx.backend = backend
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(f"{ctx.backend} has no gradients of gradients: take the backend 'reference', which has.")
        return grad, None
