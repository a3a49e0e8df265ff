"""Loops of edge attention over rows and over columns, compiled for a number of channels.

The forward pass keeps one row at a time: its scores, their softmax, the weighted sum of values. The backward pass
goes over rows for the gradients of queries and scores, then over columns for those of keys and values, so that
nothing is added to by two threads and results do not depend on how many there are. Only numbers per edge and head
are stored, never vectors.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba.extending import register_jitable

from stgraph._compiled import compiled
from stgraph.nn.edge_attention import vectors
from stgraph.nn.edge_attention.vectors import add_scaled, dot, put_scaled

_FASTMATH = frozenset({"reassoc", "contract", "nsz", "arcp", "afn"})
"""Not "ninf" or "nnan": minus infinity hides an edge."""


_VERSION = hashlib.sha256(Path(vectors.__file__).read_bytes()).hexdigest()[:8]
"""Of the vector instructions: what Numba keeps on disk it makes anew if this file changes, but not if theirs does."""


@register_jitable
def exponential(x):  # type: ignore[no-untyped-def]
    """``exp(x)`` of float32 up to 0, to the last bits; zero below -87. LLVM makes vectors of it, unlike of libm's.

    What is no number stays none, by a comparison of its own: a diverged model must not look as if edges were hidden.
    """
    y = x if x > np.float32(-87.0) else np.float32(-87.0)
    n = np.floor(y * np.float32(1.4426950408889634) + np.float32(0.5))
    r = y - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)  # Cephes' expf
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return p * power if x > np.float32(-87.0) else (np.float32(0.0) if x <= np.float32(-87.0) else x)


@register_jitable
def mixed(x):  # type: ignore[no-untyped-def]
    """A number of 32 bits from another, as `stgraph.nn.edge_attention.dropout` mixes them."""
    mask = np.uint64(0xFFFFFFFF)
    x = (x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D) & mask
    x = (x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B) & mask
    return x ^ (x >> np.uint64(16))


@register_jitable
def dropped(index, seed, threshold):  # type: ignore[no-untyped-def]
    """Whether the weight of this number is dropped."""
    mask = np.uint64(0xFFFFFFFF)
    x = mixed((np.uint64(index) + (seed & mask)) & mask)
    return mixed(x ^ (seed >> np.uint64(32))) < threshold


@functools.cache
def kernels(channels: int) -> tuple[Callable[..., None], Callable[..., None], Callable[..., None]]:  # noqa: PLR0915  three loops, one constant
    """Forward pass, backward pass over rows and over columns, for D ``channels`` a head.

    Parameters
    ----------
    channels
        D, a constant of the compiled code.

    Returns
    -------
    tuple of callable
        Each of ``(start, stop, arrays...)``: they do rows, or columns, from start to stop and release the GIL.
        Node arrays are flat, (N * H * D,), in float32, or in ``uint16`` for bfloat16 and ``int16`` for float16.
    """

    def forward(start, stop, q, k, v, bias, biased, ptr, col, scale, seed, threshold, kept, out, logits, norms):  # type: ignore[no-untyped-def]
        heads = logits.shape[1]
        width = heads * channels
        total = np.empty(width, np.float32)
        largest = np.empty(heads, np.float32)
        norm = np.empty(heads, np.float32)
        weight = np.empty(heads, np.float32)
        for i in range(start, stop):
            total[:] = np.float32(0)
            largest[:] = np.float32(-np.inf)
            norm[:] = np.float32(0)
            for e in range(ptr[i], ptr[i + 1]):
                for h in range(heads):
                    weight[h] = dot(q, i * width + h * channels, k, col[e] * width + h * channels, channels)
                for h in range(heads):
                    logit = weight[h] * scale
                    if biased:
                        logit += bias[e, h]
                    logits[e, h] = logit
                    largest[h] = logit if logit > largest[h] else largest[h]
            for h in range(heads):  # A row in which all is hidden has no largest.
                largest[h] = largest[h] if largest[h] > np.float32(-np.inf) else np.float32(0)
            for e in range(ptr[i], ptr[i + 1]):
                for h in range(heads):
                    weight[h] = exponential(logits[e, h] - largest[h])
                    norm[h] += weight[h]
                if threshold > 0:
                    for h in range(heads):
                        weight[h] = np.float32(0) if dropped(e * heads + h, seed, threshold) else weight[h] * kept
                for h in range(heads):
                    add_scaled(total, h * channels, weight[h], v, col[e] * width + h * channels, channels)
            for h in range(heads):
                share = np.float32(0) if norm[h] == 0 else np.float32(1) / norm[h]
                norms[i, h, 0], norms[i, h, 1] = largest[h], share
                put_scaled(out, i * width + h * channels, share, total, h * channels, channels)

    def backward_rows(  # type: ignore[no-untyped-def]  # noqa: PLR0912
        start, stop, k, v, grad, grad_logits, with_logits, ptr, col, scale, seed, threshold, kept, logits, norms,
        grad_q, grad_scores, weights,
    ):  # fmt: skip
        heads = logits.shape[1]
        width = heads * channels
        total = np.empty(width, np.float32)
        mean = np.empty(heads, np.float32)
        score = np.empty(heads, np.float32)
        one = np.float32(1)
        for i in range(start, stop):
            total[:] = np.float32(0)
            mean[:] = np.float32(0)
            for e in range(ptr[i], ptr[i + 1]):
                for h in range(heads):
                    score[h] = dot(grad, i * width + h * channels, v, col[e] * width + h * channels, channels)
                for h in range(heads):
                    weights[e, h] = exponential(logits[e, h] - norms[i, h, 0]) * norms[i, h, 1]
                if threshold > 0:
                    for h in range(heads):
                        share = np.float32(0) if dropped(e * heads + h, seed, threshold) else kept
                        score[h] *= share
                for h in range(heads):
                    grad_scores[e, h] = score[h]
                    mean[h] += weights[e, h] * score[h]
            for e in range(ptr[i], ptr[i + 1]):
                for h in range(heads):
                    change = weights[e, h] * (grad_scores[e, h] - mean[h])
                    if with_logits:
                        change += grad_logits[e, h]
                    grad_scores[e, h] = change
                    score[h] = change * scale
                if threshold > 0:  # for the columns
                    for h in range(heads):
                        weights[e, h] *= np.float32(0) if dropped(e * heads + h, seed, threshold) else kept
                for h in range(heads):
                    add_scaled(total, h * channels, score[h], k, col[e] * width + h * channels, channels)
            for h in range(heads):
                put_scaled(grad_q, i * width + h * channels, one, total, h * channels, channels)

    def backward_columns(start, stop, q, grad, col_ptr, by_col, row, scale, grad_scores, weights, grad_k, grad_v):  # type: ignore[no-untyped-def]
        heads = weights.shape[1]
        width = heads * channels
        total_k, total_v = np.empty(width, np.float32), np.empty(width, np.float32)
        one = np.float32(1)
        for j in range(start, stop):
            total_k[:] = np.float32(0)
            total_v[:] = np.float32(0)
            for place in range(col_ptr[j], col_ptr[j + 1]):
                e = by_col[place]
                at = row[e] * width
                for h in range(heads):
                    add_scaled(total_k, h * channels, grad_scores[e, h] * scale, q, at + h * channels, channels)
                for h in range(heads):
                    add_scaled(total_v, h * channels, weights[e, h], grad, at + h * channels, channels)
            for h in range(heads):
                put_scaled(grad_k, j * width + h * channels, one, total_k, h * channels, channels)
                put_scaled(grad_v, j * width + h * channels, one, total_v, h * channels, channels)

    for loop in (forward, backward_rows, backward_columns):
        loop.__qualname__ += f"-{_VERSION}"  # by which they are kept on disk
    return (
        compiled(forward, fastmath=_FASTMATH),
        compiled(backward_rows, fastmath=_FASTMATH),
        compiled(backward_columns, fastmath=_FASTMATH),
    )
