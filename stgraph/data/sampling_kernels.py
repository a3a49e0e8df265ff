"""Sampling of in-neighbours on a CSC matrix, in numba."""

import numpy as np
from numpy.typing import NDArray

from stgraph._compiled import compiled

INCREMENT = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
_LINEAR = 32
"""Draws up to which looking through those made so far is faster than marking them."""


def sample_neighbors(
    colptr: NDArray[np.int64],
    row: NDArray[np.int64],
    targets: NDArray[np.int64],
    first: int,
    count: int,
    replace: bool,
    local: NDArray[np.int64],
    num_known: int,
    state: NDArray[np.uint64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Draw edges that end at some nodes, each subset of a node's edges equally likely.

    Parameters
    ----------
    colptr, row
        CSC: the sources of the edges at node i are ``row[colptr[i]:colptr[i + 1]]``.
    targets
        (n,) nodes whose edges are drawn.
    first
        Their local numbers are ``first``, ``first + 1``, ...
    count
        Most edges of a node; -1 for all.
    replace
        Whether an edge may be drawn twice; then a node with any edge gets ``count``.
    local
        (N,) local number of each source node, -1 for those not met yet; changed.
    num_known
        How many sources have a local number.
    state
        (1,) state of the random generator; changed.

    Returns
    -------
    source, target, edge
        (E,) local numbers of both ends and position of the edge in the CSC.
    new
        Sources met for the first time; their local numbers follow ``num_known``.
    """
    result: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] = _sample(
        colptr, row, targets, first, count, replace, local, num_known, state
    )
    return result


def induced_edges(
    colptr: NDArray[np.int64], row: NDArray[np.int64], targets: NDArray[np.int64], local: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All edges between nodes with a local number.

    Parameters
    ----------
    colptr, row, local
        As in `sample_neighbors`.
    targets
        (n,) nodes, in the order of their local numbers.

    Returns
    -------
    source, target, edge
        As in `sample_neighbors`.
    """
    result: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] = _induced(colptr, row, targets, local)
    return result


@compiled
def _below(state, bound):  # type: ignore[no-untyped-def]
    """A whole number from 0 to ``bound - 1``, by SplitMix64 (Steele, Lea and Flood 2014)."""
    state[0] += INCREMENT
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    z = z ^ (z >> np.uint64(31))
    return np.int64(np.float64(z >> np.uint64(11)) * 2.0**-53 * bound)


@compiled
def _choose(degree, count, state, chosen):  # type: ignore[no-untyped-def]
    """``count`` different numbers below ``degree`` into ``chosen``."""
    if count <= _LINEAR or count * count < degree:
        # Floyd's algorithm (Bentley and Floyd 1987): no pass over the edges of a node that has a million.
        for k in range(count):
            draw = _below(state, degree - count + k + 1)
            for earlier in range(k):
                if chosen[earlier] == draw:
                    draw = degree - count + k
                    break
            chosen[k] = draw
    else:
        every = np.arange(degree)
        for k in range(count):
            other = k + _below(state, degree - k)
            every[k], every[other] = every[other], every[k]
            chosen[k] = every[k]


@compiled
def _sample(colptr, row, targets, first, count, replace, local, num_known, state):  # type: ignore[no-untyped-def]
    total = 0
    for target in targets:
        degree = colptr[target + 1] - colptr[target]
        if count < 0 or (degree <= count and not replace) or degree == 0:
            total += degree
        else:
            total += count
    source = np.empty(total, dtype=np.int64)
    end = np.empty(total, dtype=np.int64)
    edge = np.empty(total, dtype=np.int64)
    new = np.empty(total, dtype=np.int64)
    chosen = np.empty(max(count, 0), dtype=np.int64)
    size, num_new = 0, 0
    for i in range(len(targets)):
        begin = colptr[targets[i]]
        degree = colptr[targets[i] + 1] - begin
        everyone = count < 0 or (degree <= count and not replace) or degree == 0
        drawn = degree if everyone else count
        if not everyone and replace:
            for k in range(drawn):
                chosen[k] = _below(state, degree)
        elif not everyone:
            _choose(degree, count, state, chosen)
        for k in range(drawn):
            position = begin + (k if everyone else chosen[k])
            node = row[position]
            if local[node] < 0:
                local[node] = num_known + num_new
                new[num_new] = node
                num_new += 1
            source[size] = local[node]
            end[size] = first + i
            edge[size] = position
            size += 1
    return source, end, edge, new[:num_new].copy()


@compiled
def _induced(colptr, row, targets, local):  # type: ignore[no-untyped-def]
    total = 0
    for target in targets:
        for position in range(colptr[target], colptr[target + 1]):
            total += local[row[position]] >= 0
    source = np.empty(total, dtype=np.int64)
    end = np.empty(total, dtype=np.int64)
    edge = np.empty(total, dtype=np.int64)
    size = 0
    for i in range(len(targets)):
        for position in range(colptr[targets[i]], colptr[targets[i] + 1]):
            if local[row[position]] >= 0:
                source[size], end[size], edge[size] = local[row[position]], i, position
                size += 1
    return source, end, edge
