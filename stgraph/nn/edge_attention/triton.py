"""Edge attention on CUDA GPUs in one pass over the edges, without vectors per edge."""

import functools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from stgraph.nn.edge_attention import triton_kernels
from stgraph.nn.edge_attention.derivative import differentiate
from stgraph.nn.edge_attention.dropout import threshold
from stgraph.nn.edge_attention.graph import EdgeGraph
from stgraph.nn.forward_mode import refuse_tangents

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What it takes; sums are float32."""

STRETCH = 1024
"""Edges of a column that one program goes over at most."""

_TILE = 4096
"""Numbers of one edge, head and channel that a program holds of a tensor at a time."""


def triton_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, graph: EdgeGraph, *, dropout: float, seed: Tensor
) -> tuple[Tensor, Tensor]:
    """`stgraph.nn.edge_attention.edge_attention`, which documents the arguments, by kernels that Triton compiles.

    The result is the same to the bit each time: nothing is tuned by timing it. Gradients of gradients are not
    there: the reference has them. If Triton's interpreter is on since Python began (``TRITON_INTERPRET=1``), the same
    kernels run on the CPU without being compiled: slowly, to test them.
    """
    if q.dtype not in DTYPES or not q.dtype == k.dtype == v.dtype:
        raise ValueError(
            f"triton attends in float32, bfloat16 or float16, all of q, k and v in the same: not {q.dtype}, "
            f"{k.dtype} and {v.dtype}. The backend 'reference' takes float64."
        )
    refuse_tangents("triton", q, k, v, bias)
    trained = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (q, k, v, bias))
    col_ptr, by_col = graph.transposed if trained else (graph.ptr[:0], graph.col[:0])
    if bias is not None:
        bias = bias.float()
    ptr, row, col = (t.contiguous() for t in (graph.ptr, graph.row, graph.col))  # Kernels know of no strides here.
    out, logits, _ = _forward(q, k, v, bias, ptr, row, col, col_ptr, by_col, seed, dropout)
    return out, logits


def interpreted() -> bool:
    """Whether Triton interprets kernels, so that they run on any device, instead of compiling them.

    Returns
    -------
    bool
        What ``TRITON_INTERPRET`` was when Triton was first needed.
    """
    from triton.runtime.jit import JITFunction  # noqa: PLC0415  # it takes a while, and may not be installed

    return not isinstance(_kernels().forward, JITFunction)


@torch.library.custom_op("stgraph::edge_attention_triton", mutates_args=())
def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    ptr: Tensor,
    row: Tensor,
    col: Tensor,
    col_ptr: Tensor,
    by_col: Tensor,
    seed: Tensor,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    if q.device.type != "cuda" and not interpreted():
        raise ValueError(
            f"triton needs tensors on a CUDA device, not {str(q.device)!r}, or TRITON_INTERPRET=1 in the environment "
            "of Python for Triton's interpreter on the CPU; the backend 'fused-cpu' is made for the CPU."
        )
    n, heads, channels = q.shape
    out, logits, norms = _results(q, v, col)
    q, k, v = _rows(q), _rows(k), _rows(v)
    if out.numel():
        _launch(
            "forward", n, (heads, channels), q, k, v, None if bias is None else bias.contiguous(), ptr, col,
            q.stride(0), k.stride(0), v.stride(0), channels**-0.5, *_drops(seed, dropout), out, logits, norms, n,
            BIASED=bias is not None, DROPOUT=dropout > 0,
        )  # fmt: skip
    return out, logits, norms


@_forward.register_fake
def _results_of_forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, ptr: Tensor, row: Tensor, col: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _results(q, v, col)


def _results(q: Tensor, v: Tensor, col: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Room for output, logits, and the largest logit and 1 / the sum of each row."""
    n, heads, _ = q.shape
    return (
        torch.empty_like(v, memory_format=torch.contiguous_format),
        q.new_empty((col.shape[0], heads), dtype=torch.float32),
        q.new_empty((2, n, heads), dtype=torch.float32),
    )


@torch.library.custom_op("stgraph::edge_attention_triton_backward", mutates_args=())
def _backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    logits: Tensor,
    norms: Tensor,
    grad: Tensor,
    grad_logits: Tensor | None,
    ptr: Tensor,
    row: Tensor,
    col: Tensor,
    col_ptr: Tensor,
    by_col: Tensor,
    seed: Tensor,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, heads, channels = q.shape
    grad_q, grad_k, grad_v, grad_scores = _gradients_for(q, k, v, logits)
    weights = torch.empty_like(logits)
    q, k, v, grad, scale = _rows(q), _rows(k), _rows(v), grad.contiguous(), channels**-0.5
    if not q.numel():
        return grad_q, grad_k, grad_v, grad_scores
    _launch(
        "backward_rows", n, (heads, channels), k, v, grad,
        None if grad_logits is None else grad_logits.contiguous(), ptr, col, k.stride(0), v.stride(0), scale,
        *_drops(seed, dropout), logits, norms, grad_q, grad_scores, weights, n,
        WITH_LOGITS=grad_logits is not None, DROPOUT=dropout > 0,
    )  # fmt: skip
    bounds = max(len(col) - 1, 0) // STRETCH
    shares = q.new_empty((2, bounds, 2, heads, channels), dtype=torch.float32)
    _launch(
        "backward_columns", n + bounds, (heads, channels), q, grad, col_ptr, by_col, row, col, q.stride(0), scale,
        grad_scores, weights, grad_k, grad_v, shares, n, STRETCH=STRETCH,
    )  # fmt: skip
    if bounds:
        _launch("add_shares", bounds, (heads, channels), col_ptr, by_col, col, shares, grad_k, grad_v, STRETCH=STRETCH)
    return grad_q, grad_k, grad_v, grad_scores


@_backward.register_fake
def _results_of_backward(q: Tensor, k: Tensor, v: Tensor, logits: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return _gradients_for(q, k, v, logits)


def _gradients_for(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors)


differentiate("triton", _forward, _backward)


def blocks(heads: int, channels: int) -> dict[str, int]:
    """How many edges, heads and channels a program takes at a time, all powers of two, and by how many warps.

    Parameters
    ----------
    heads, channels
        H and D.

    Returns
    -------
    dict
        ``BLOCK_E``, ``BLOCK_H``, ``BLOCK_D`` and ``num_warps``.

    Examples
    --------
    >>> from stgraph.nn.edge_attention.triton import blocks
    >>> blocks(8, 32)
    {'BLOCK_E': 16, 'BLOCK_H': 8, 'BLOCK_D': 32, 'num_warps': 4}
    """
    channels = _power_of_two(channels)
    heads = min(_power_of_two(heads), max(1, 512 // channels))
    edges = min(32, max(1, _TILE // (heads * channels)))
    return {
        "BLOCK_E": edges,
        "BLOCK_H": heads,
        "BLOCK_D": channels,
        "num_warps": min(8, max(1, edges * heads * channels // 1024)),
    }


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _launch(name: str, programs: int, shape: Sequence[int], *args: Any, **constants: Any) -> None:
    """Run a kernel with ``programs`` for each block of heads, for ``shape`` heads and channels."""
    block = blocks(*shape)
    grid = (programs, -(-shape[0] // block["BLOCK_H"]))
    with torch.cuda.device_of(args[0]):  # type: ignore[no-untyped-call]
        getattr(_kernels(), name)[grid](
            *args, HEADS=shape[0], CHANNELS=shape[1], **constants, **block, enable_fp_fusion=True
        )


@functools.cache
def _kernels() -> SimpleNamespace:
    import triton  # noqa: PLC0415  # it takes a while, and may not be installed

    # These change from call to call: nothing is to be compiled for one of their values.
    changing = ["seed_low", "seed_high", "threshold"]
    compiled = {
        "forward": triton.jit(triton_kernels.forward, do_not_specialize=changing),
        "backward_rows": triton.jit(triton_kernels.backward_rows, do_not_specialize=changing),
        "backward_columns": triton.jit(triton_kernels.backward_columns),
        "add_shares": triton.jit(triton_kernels.add_shares),
    }
    return SimpleNamespace(**compiled)


def _drops(seed: Tensor, dropout: float) -> tuple[int, int, int, float]:
    """Halves of the seed, threshold and factor of the dropout; integers as int32 of the same bits."""
    number = int(seed)
    low, high, below = (
        bits - 2**32 if bits >= 2**31 else bits for bits in (number % 2**32, number >> 32, threshold(dropout))
    )
    return low, high, below, 1.0 / (1.0 - dropout)


def _rows(tensor: Tensor) -> Tensor:
    """With heads and channels of a node side by side; where nodes lie may be left as it is."""
    return tensor if tensor[:1].is_contiguous() else tensor.contiguous()
