"""Loops of edge attention over rows and over columns for GPUs; `stgraph.nn.edge_attention.triton` compiles them.

They are those of `stgraph.nn.edge_attention.fused_cpu_kernels`, with the softmax of a row made online. A program
takes one row, or column, and a block of heads, and reads a block of its edges at a time: for each edge H * D numbers
of a node lie side by side. Columns may be longer than all rows together, for a virtual cell informs every cell, so
that several programs share those; a second kernel adds up what they found, in order. Nothing is added to by two
programs, so that results are the same each time.

Heads and channels are rounded up to powers of two, and masked. Places are counted in 64 bits.
"""

# Annotations stay text, and the module can be imported where Triton is not installed.
from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    import triton.language as tl


def forward(  # type: ignore[no-untyped-def]
    q, k, v, bias, ptr, col, stride_q, stride_k, stride_v,
    scale, seed_low, seed_high, threshold, kept, out, logits, norms,
    rows, HEADS: tl.constexpr, CHANNELS: tl.constexpr, BIASED: tl.constexpr, DROPOUT: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Output and logits of one row, with what its softmax is made from again: its largest logit, 1 / its sum."""
    i = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    inside = (h < HEADS)[:, None] & (d < CHANNELS)[None, :]
    channel = h[:, None] * CHANNELS + d[None, :]
    query = tl.load(q + i * stride_q + channel, mask=inside, other=0.0).to(tl.float32)
    largest = tl.full([BLOCK_H], float("-inf"), tl.float32)
    norm = tl.full([BLOCK_H], 0.0, tl.float32)
    total = tl.full([BLOCK_H, BLOCK_D], 0.0, tl.float32)
    begin = tl.load(ptr + i)
    end = tl.load(ptr + i + 1)
    for first in range(begin, end, BLOCK_E):
        e = (first + tl.arange(0, BLOCK_E)).to(tl.int64)
        j = tl.load(col + e, mask=e < end, other=0)
        there = (e < end)[:, None, None] & inside[None, :, :]
        key = tl.load(k + (j * stride_k)[:, None, None] + channel[None, :, :], mask=there, other=0.0)
        value = tl.load(v + (j * stride_v)[:, None, None] + channel[None, :, :], mask=there, other=0.0)
        pair = e[:, None] * HEADS + h[None, :]
        paired = (e < end)[:, None] & (h < HEADS)[None, :]
        logit = tl.sum(query[None, :, :] * key.to(tl.float32), axis=2) * scale
        if BIASED:
            logit += tl.load(bias + pair, mask=paired, other=0.0)
        tl.store(logits + pair, logit, mask=paired)
        logit = tl.where(paired, logit, float("-inf"))
        higher = tl.maximum(largest, tl.max(logit, axis=0))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # A row in which all is hidden has no largest.
        weight = tl.exp(logit - base[None, :])
        shrink = tl.exp(largest - base)
        norm = norm * shrink + tl.sum(weight, axis=0)
        if DROPOUT:
            # `dropout.kept`; again in backward_rows, for Triton's interpreter is slow in calling functions.
            x = pair.to(tl.uint32) + seed_low.to(tl.uint32)
            x = (x ^ (x >> 16)) * 0x7FEB352D
            x = (x ^ (x >> 15)) * 0x846CA68B
            x = x ^ (x >> 16) ^ seed_high.to(tl.uint32)
            x = (x ^ (x >> 16)) * 0x7FEB352D
            x = (x ^ (x >> 15)) * 0x846CA68B
            x = x ^ (x >> 16)
            weight = tl.where(x < threshold.to(tl.uint32), 0.0, weight * kept)
        total = total * shrink[:, None] + tl.sum(weight[:, :, None] * value.to(tl.float32), axis=0)
        largest = higher
    share = 1.0 / tl.where(norm == 0.0, 1.0, norm)
    total = tl.where((norm == 0.0)[:, None], 0.0, total * share[:, None])
    tl.store(out + i * (HEADS * CHANNELS) + channel, total.to(out.dtype.element_ty), mask=inside)
    largest = tl.where(largest == float("-inf"), 0.0, largest)
    tl.store(norms + i * HEADS + h, largest, mask=h < HEADS)
    tl.store(norms + (rows + i) * HEADS + h, share, mask=h < HEADS)


def backward_rows(  # type: ignore[no-untyped-def]  # noqa: PLR0915  # a kernel calls no functions
    k, v, grad, grad_logits, ptr, col, stride_k, stride_v, scale,
    seed_low, seed_high, threshold, kept, logits, norms, grad_q, grad_scores,
    weights, rows, HEADS: tl.constexpr, CHANNELS: tl.constexpr, WITH_LOGITS: tl.constexpr,
    DROPOUT: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Gradients of the queries and the logits of one row, and its weights as dropout left them."""
    i = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    inside = (h < HEADS)[:, None] & (d < CHANNELS)[None, :]
    channel = h[:, None] * CHANNELS + d[None, :]
    here = i * (HEADS * CHANNELS) + channel
    of_out = tl.load(grad + here, mask=inside, other=0.0).to(tl.float32)
    largest = tl.load(norms + i * HEADS + h, mask=h < HEADS, other=0.0)
    share = tl.load(norms + (rows + i) * HEADS + h, mask=h < HEADS, other=0.0)
    mean = tl.full([BLOCK_H], 0.0, tl.float32)
    total = tl.full([BLOCK_H, BLOCK_D], 0.0, tl.float32)
    begin = tl.load(ptr + i)
    end = tl.load(ptr + i + 1)
    for first in range(begin, end, BLOCK_E):
        e = (first + tl.arange(0, BLOCK_E)).to(tl.int64)
        j = tl.load(col + e, mask=e < end, other=0)
        there = (e < end)[:, None, None] & inside[None, :, :]
        value = tl.load(v + (j * stride_v)[:, None, None] + channel[None, :, :], mask=there, other=0.0)
        pair = e[:, None] * HEADS + h[None, :]
        paired = (e < end)[:, None] & (h < HEADS)[None, :]
        logit = tl.load(logits + pair, mask=paired, other=float("-inf"))
        weight = tl.exp(logit - largest[None, :]) * share[None, :]
        left = weight
        of_weight = tl.sum(of_out[None, :, :] * value.to(tl.float32), axis=2)
        if DROPOUT:
            x = pair.to(tl.uint32) + seed_low.to(tl.uint32)
            x = (x ^ (x >> 16)) * 0x7FEB352D
            x = (x ^ (x >> 15)) * 0x846CA68B
            x = x ^ (x >> 16) ^ seed_high.to(tl.uint32)
            x = (x ^ (x >> 16)) * 0x7FEB352D
            x = (x ^ (x >> 15)) * 0x846CA68B
            x = x ^ (x >> 16)
            factor = tl.where(x < threshold.to(tl.uint32), 0.0, kept)
            left = weight * factor
            of_weight *= factor
        tl.store(weights + pair, left, mask=paired)
        tl.store(grad_scores + pair, of_weight, mask=paired)
        mean += tl.sum(weight * of_weight, axis=0)
    # What was stored may be loaded by other threads of the program.
    tl.debug_barrier()
    for first in range(begin, end, BLOCK_E):
        e = (first + tl.arange(0, BLOCK_E)).to(tl.int64)
        j = tl.load(col + e, mask=e < end, other=0)
        there = (e < end)[:, None, None] & inside[None, :, :]
        key = tl.load(k + (j * stride_k)[:, None, None] + channel[None, :, :], mask=there, other=0.0)
        pair = e[:, None] * HEADS + h[None, :]
        paired = (e < end)[:, None] & (h < HEADS)[None, :]
        logit = tl.load(logits + pair, mask=paired, other=float("-inf"))
        weight = tl.exp(logit - largest[None, :]) * share[None, :]
        of_score = weight * (tl.load(grad_scores + pair, mask=paired, other=0.0) - mean[None, :])
        tl.debug_barrier()  # Nor may one be overwritten that another thread has yet to load.
        if WITH_LOGITS:
            of_score += tl.load(grad_logits + pair, mask=paired, other=0.0)
        tl.store(grad_scores + pair, of_score, mask=paired)
        total += tl.sum(of_score[:, :, None] * key.to(tl.float32), axis=0)
    tl.store(grad_q + here, (total * scale).to(grad_q.dtype.element_ty), mask=inside)


def backward_columns(  # type: ignore[no-untyped-def]
    q, grad, col_ptr, by_col, row, col, stride_q, scale, grad_scores,
    weights, grad_k, grad_v, shares, columns, HEADS: tl.constexpr, CHANNELS: tl.constexpr,
    STRETCH: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Gradients of the keys and values of one column, or its share of them.

    Edges in the order of columns fall into stretches, at whose bounds programs hand over: program j goes from the
    beginning of column j to the next bound, program ``columns + m - 1`` on from bound m, if a column reaches over it.
    Of a column that reaches over bounds, ``shares[0, m - 1]`` is what comes before its first bound, m, and
    ``shares[1, m - 1]`` what comes after bound m, each of keys and then of values.
    """
    program = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    inside = (h < HEADS)[:, None] & (d < CHANNELS)[None, :]
    channel = h[:, None] * CHANNELS + d[None, :]
    width: tl.constexpr = HEADS * CHANNELS
    bounds = tl.num_programs(0) - columns
    j = program
    begin = tl.load(col_ptr + j, mask=program < columns, other=0)
    if program >= columns:
        begin = (program - columns + 1) * STRETCH
        j = tl.load(col + tl.load(by_col + begin))
    column_end = tl.load(col_ptr + j + 1)
    end = tl.minimum(column_end, (begin // STRETCH + 1) * STRETCH)
    # A column that begins at the bound has its own program.
    if (program < columns) | (tl.load(col_ptr + j) < begin):
        total_k = tl.full([BLOCK_H, BLOCK_D], 0.0, tl.float32)
        total_v = tl.full([BLOCK_H, BLOCK_D], 0.0, tl.float32)
        for first in range(begin, end, BLOCK_E):
            place = (first + tl.arange(0, BLOCK_E)).to(tl.int64)
            e = tl.load(by_col + place, mask=place < end, other=0)
            i = tl.load(row + e, mask=place < end, other=0)
            there = (place < end)[:, None, None] & inside[None, :, :]
            query = tl.load(q + (i * stride_q)[:, None, None] + channel[None, :, :], mask=there, other=0.0)
            of_out = tl.load(grad + (i * width)[:, None, None] + channel[None, :, :], mask=there, other=0.0)
            pair = e[:, None] * HEADS + h[None, :]
            paired = (place < end)[:, None] & (h < HEADS)[None, :]
            of_score = tl.load(grad_scores + pair, mask=paired, other=0.0)
            weight = tl.load(weights + pair, mask=paired, other=0.0)
            total_k += tl.sum(of_score[:, :, None] * query.to(tl.float32), axis=0)
            total_v += tl.sum(weight[:, :, None] * of_out.to(tl.float32), axis=0)
        total_k *= scale
        if (program < columns) & (column_end <= end):
            tl.store(grad_k + j * width + channel, total_k.to(grad_k.dtype.element_ty), mask=inside)
            tl.store(grad_v + j * width + channel, total_v.to(grad_v.dtype.element_ty), mask=inside)
        else:
            share = tl.where(program < columns, begin // STRETCH, bounds + program - columns)
            tl.store(shares + share * (2 * width) + channel, total_k, mask=inside)
            tl.store(shares + share * (2 * width) + width + channel, total_v, mask=inside)


def add_shares(  # type: ignore[no-untyped-def]
    col_ptr, by_col, col, shares, grad_k, grad_v,
    HEADS: tl.constexpr, CHANNELS: tl.constexpr, STRETCH: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add up the shares of the column whose first bound this program has, if there is one."""
    bound = tl.program_id(0).to(tl.int64) + 1
    bounds = tl.num_programs(0)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    inside = (h < HEADS)[:, None] & (d < CHANNELS)[None, :]
    channel = h[:, None] * CHANNELS + d[None, :]
    width: tl.constexpr = HEADS * CHANNELS
    j = tl.load(col + tl.load(by_col + bound * STRETCH))
    begin = tl.load(col_ptr + j)
    if (begin < bound * STRETCH) & (begin >= (bound - 1) * STRETCH):
        total_k = tl.load(shares + (bound - 1) * (2 * width) + channel, mask=inside, other=0.0)
        total_v = tl.load(shares + (bound - 1) * (2 * width) + width + channel, mask=inside, other=0.0)
        behind = (tl.load(col_ptr + j + 1) + STRETCH - 1) // STRETCH  # the first bound that it does not reach over
        for first in range(bound, behind, BLOCK_E):
            other = (first + tl.arange(0, BLOCK_E)).to(tl.int64)
            there = (other < behind)[:, None, None] & inside[None, :, :]
            at = shares + ((bounds + other - 1) * (2 * width))[:, None, None] + channel[None, :, :]
            total_k += tl.sum(tl.load(at, mask=there, other=0.0), axis=0)
            total_v += tl.sum(tl.load(at + width, mask=there, other=0.0), axis=0)
        tl.store(grad_k + j * width + channel, total_k.to(grad_k.dtype.element_ty), mask=inside)
        tl.store(grad_v + j * width + channel, total_v.to(grad_v.dtype.element_ty), mask=inside)
