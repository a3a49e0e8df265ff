"""Refusing forward-mode derivatives, which operators of torch.library would leave out without a word."""

import torch
from torch import Tensor
from torch.autograd import forward_ad


def refuse_tangents(who: str, *tensors: Tensor | None) -> None:
    """Raise if a tensor carries a tangent, as within `torch.func.jvp`: a custom operator would take it for zero.

    Parameters
    ----------
    who
        Has no such derivatives, for the message.
    *tensors
        What is given to it.

    Raises
    ------
    RuntimeError
        If one of them carries a tangent.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.forward_mode import refuse_tangents
    >>> refuse_tangents("fused-cpu", torch.ones(1))
    """
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return
    if any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors):  # type: ignore[no-untyped-call]
        raise RuntimeError(f"{who} has no forward-mode derivatives (torch.func.jvp): take backward ones.")
