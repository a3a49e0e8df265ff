"""Loops of the table lookup over edges, compiled for a number of heads.

Edges come in chunks whose bounds do not depend on the number of threads; in the backward pass each chunk has a table
of its own to add to, so that neither the order of the sums depends on it.
"""

import functools
from collections.abc import Callable

import numpy as np
from numba.extending import register_jitable

from stgraph._compiled import compiled


@register_jitable
def knot_below(distance, edge_type, first, left):  # type: ignore[no-untyped-def]
    """Row of the knot below a float32 distance, and the share of the next one; as `stgraph.nn.table_lookup` says."""
    if distance <= np.float32(0):
        return first[edge_type, 0] - 1, np.float32(0)
    # Sign, exponent and the first 6 bits of the mantissa of 1 + distance: 64 cells for each power of two.
    cell = (np.float32(distance + np.float32(1)).view(np.int32) >> np.int32(17)) - 127 * 64
    begin = first[edge_type, cell]
    count = first[edge_type, cell + 1] - begin
    place = (distance - left[cell]) / (left[cell + 1] - left[cell]) * np.float32(count)
    below = min(max(int(place), 0), count - 1)
    return begin + below, min(max(place - np.float32(below), np.float32(0)), np.float32(1))


@functools.cache
def kernels(heads: int) -> tuple[Callable[..., None], Callable[..., None], Callable[..., None]]:
    """Values, gradients of the table, and gradients of the distances, for H ``heads``.

    Parameters
    ----------
    heads
        H, a constant of the compiled code.

    Returns
    -------
    tuple of callable
        Each of ``(start, stop, bounds, arrays...)``: they do the chunks from start to stop, chunk c being the edges
        from ``bounds[c]`` to ``bounds[c + 1]``, and release the GIL.
    """

    def values(start, stop, bounds, distance, edge_type, typed, first, left, table, out):  # type: ignore[no-untyped-def]
        for e in range(bounds[start], bounds[stop]):
            low, share = knot_below(distance[e], edge_type[e] if typed else 0, first, left)
            for h in range(heads):
                out[e, h] = table[low, h] + share * (table[low + 1, h] - table[low, h])

    def table_gradients(start, stop, bounds, distance, edge_type, typed, first, left, grad, tables):  # type: ignore[no-untyped-def]
        for chunk in range(start, stop):
            tables[chunk] = np.float32(0)
            for e in range(bounds[chunk], bounds[chunk + 1]):
                low, share = knot_below(distance[e], edge_type[e] if typed else 0, first, left)
                for h in range(heads):
                    upper = share * grad[e, h]
                    tables[chunk, low, h] += grad[e, h] - upper
                    tables[chunk, low + 1, h] += upper

    def distance_gradients(start, stop, bounds, distance, edge_type, typed, first, left, table, grad, out):  # type: ignore[no-untyped-def]
        for e in range(bounds[start], bounds[stop]):
            kind = edge_type[e] if typed else 0
            low, _ = knot_below(distance[e], kind, first, left)
            total = np.float32(0)
            if distance[e] > 0:
                for h in range(heads):
                    total += grad[e, h] * (table[low + 1, h] - table[low, h])
                cell = (np.float32(distance[e] + np.float32(1)).view(np.int32) >> np.int32(17)) - 127 * 64
                count = first[kind, cell + 1] - first[kind, cell]
                total *= np.float32(count) / (left[cell + 1] - left[cell])
            out[e] = total

    return compiled(values), compiled(table_gradients), compiled(distance_gradients)
