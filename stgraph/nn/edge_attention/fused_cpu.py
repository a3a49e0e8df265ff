"""Edge attention on the CPU in one pass over the edges, without vectors per edge."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stgraph.nn.edge_attention.derivative import differentiate
from stgraph.nn.edge_attention.dropout import threshold
from stgraph.nn.edge_attention.fused_cpu_kernels import kernels
from stgraph.nn.edge_attention.graph import EdgeGraph
from stgraph.nn.forward_mode import refuse_tangents
from stgraph.nn.threads import in_threads

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What it is compiled for; sums are float32."""


def fused_cpu(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, graph: EdgeGraph, *, dropout: float, seed: Tensor
) -> tuple[Tensor, Tensor]:
    """`stgraph.nn.edge_attention.edge_attention`, which documents the arguments, by compiled loops.

    Rows are shared among as many threads as torch has (``torch.set_num_threads``), and the result is the same
    to the bit for any number. Gradients of gradients are not there: the reference has them.
    """
    if q.dtype not in DTYPES or not q.dtype == k.dtype == v.dtype:
        raise ValueError(
            f"fused-cpu attends in float32, bfloat16 or float16, all of q, k and v in the same: not {q.dtype}, "
            f"{k.dtype} and {v.dtype}. The backend 'reference' takes float64."
        )
    refuse_tangents("fused-cpu", q, k, v, bias)
    if bias is not None:
        bias = bias.float()
    # Only the backward pass goes over columns, and to sort a million cells' edges by them takes a second.
    trained = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (q, k, v, bias))
    col_ptr, by_col = graph.transposed if trained else (graph.ptr[:0], graph.col[:0])
    out, logits, _ = _forward(q, k, v, bias, graph.ptr, graph.row, graph.col, col_ptr, by_col, seed, dropout)
    return out, logits


@torch.library.custom_op("stgraph::edge_attention", mutates_args=(), device_types="cpu")
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
    n, heads, channels = q.shape
    out = torch.empty_like(v, memory_format=torch.contiguous_format)
    logits = q.new_empty((len(col), heads), dtype=torch.float32)
    norms = q.new_empty((n, heads, 2), dtype=torch.float32)
    biases = np.empty((0, heads), np.float32) if bias is None else _numpy(bias)
    in_threads(
        kernels(channels)[0], _numpy(ptr), heads * channels,
        _flat(q), _flat(k), _flat(v), biases, bias is not None, _numpy(ptr), _numpy(col),
        *_numbers(channels, seed, dropout), _flat(out), _numpy(logits), _numpy(norms),
    )  # fmt: skip
    return out, logits, norms


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, ptr: Tensor, row: Tensor, col: Tensor, *_: Any) -> Any:
    shape = (q.shape[0], q.shape[1], 2)
    return (
        torch.empty_like(v, memory_format=torch.contiguous_format),
        q.new_empty((col.shape[0], q.shape[1]), dtype=torch.float32),
        q.new_empty(shape, dtype=torch.float32),
    )


@torch.library.custom_op("stgraph::edge_attention_backward", mutates_args=(), device_types="cpu")
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
    _, heads, channels = q.shape
    grad_q, grad_k, grad_v = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (q, k, v))
    grad_scores, weights = torch.empty_like(logits), torch.empty_like(logits)
    of_logits = np.empty((0, heads), np.float32) if grad_logits is None else _numpy(grad_logits)
    _, over_rows, over_columns = kernels(channels)
    scale, *drops = _numbers(channels, seed, dropout)
    in_threads(
        over_rows, _numpy(ptr), heads * channels,
        _flat(k), _flat(v), _flat(grad), of_logits, grad_logits is not None, _numpy(ptr), _numpy(col), scale, *drops,
        _numpy(logits), _numpy(norms), _flat(grad_q), _numpy(grad_scores), _numpy(weights),
    )  # fmt: skip
    in_threads(
        over_columns, _numpy(col_ptr), heads * channels,
        _flat(q), _flat(grad), _numpy(col_ptr), _numpy(by_col), _numpy(row), scale, _numpy(grad_scores),
        _numpy(weights), _flat(grad_k), _flat(grad_v),
    )  # fmt: skip
    return grad_q, grad_k, grad_v, grad_scores


@_backward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, logits: Tensor, *_: Any) -> Any:
    return (*(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (q, k, v)), torch.empty_like(logits))


differentiate("fused-cpu", _forward, _backward)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(tensor.detach().contiguous().numpy())


def _flat(tensor: Tensor) -> NDArray[Any]:
    """The numbers in a row; halves as the integers that the kernels take for them."""
    same = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}.get(tensor.dtype, tensor.dtype)
    return _numpy(tensor.detach().contiguous().view(-1).view(same))


def _numbers(channels: int, seed: Tensor, dropout: float) -> tuple[Any, ...]:
    """Scale, seed, threshold and factor of the dropout, in the types the kernels are compiled for."""
    kept = np.float32(1.0 / (1.0 - dropout))
    return np.float32(channels**-0.5), np.uint64(int(seed)), np.uint64(threshold(dropout)), kept
