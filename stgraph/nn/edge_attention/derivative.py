"""How an operator of edge attention, forward, and the one for its gradients, backward, are made one for autograd."""

from typing import Any

import torch
from torch import Tensor


def differentiate(backend: str, forward: Any, backward: Any) -> None:
    """Make ``backward`` the derivative of ``forward``, and refuse a second one.

    Parameters
    ----------
    backend
        Whose they are, for the message.
    forward
        A ``torch.library.custom_op`` of q, k, v, bias, the graph (ptr, row, col, edges by column and their pointers),
        seed and dropout, to out, logits, norms.
    backward
        One of q, k, v, logits, norms, the gradients of out and of the logits (or None), the graph, seed and dropout,
        to the gradients of q, k, v and bias.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        q, k, v, bias, *graph_and_seed, dropout = inputs
        ctx.save_for_backward(q, k, v, *output[1:], *graph_and_seed)
        ctx.biased, ctx.dropout = bias is not None, dropout
        ctx.set_materialize_grads(False)

    def gradients(ctx: Any, grad: Tensor | None, grad_logits: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        q, k, v, logits, norms, *graph_and_seed = ctx.saved_tensors
        if grad is None:
            grad = torch.zeros_like(v)
        *grads, grad_scores = backward(q, k, v, logits, norms, grad, grad_logits, *graph_and_seed, ctx.dropout)
        return (*grads, grad_scores if ctx.biased else None, *[None] * 7)

    def refuse(ctx: Any, *_: Any) -> None:
        raise RuntimeError(f"{backend} has no gradients of gradients: take the backend 'reference', which has.")

    forward.register_autograd(gradients, setup_context=keep)
    backward.register_autograd(refuse)
