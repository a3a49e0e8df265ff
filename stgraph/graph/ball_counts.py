"""How many cells of each kind are near each cell, counted without keeping who they are."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph._chunks import in_chunks
from stgraph._compiled import compiled
from stgraph.errors import InputError
from stgraph.graph.edges import index_dtype
from stgraph.graph.nearest import TIE
from stgraph.graph.spatial_order import checked_positions
from stgraph.graph.strips import within_radius

_PAIRS = 2**25
"""About as many pairs of cells are held at once."""

_SAMPLE = 1024


def count_within(pos: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
    """Number of other cells up to ``radius`` from each cell.

    Cells exactly as far as this, up to rounding, and cells at the same place count, as in
    `stgraph.graph.builders.Radius`.

    Parameters
    ----------
    pos
        (N, 2) positions of one slice.
    radius
        In the unit of ``pos``; 0 counts coincident cells.

    Returns
    -------
    ndarray
        (N,) int64.

    Raises
    ------
    InputError
        If a cell has no place, or the radius is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.ball_counts import count_within
    >>> count_within(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), 2.0)
    array([1, 2, 1])
    """
    return tally_within(pos, np.zeros(len(pos), dtype=np.int64), 1, radius)[:, 0]


def tally_within(pos: NDArray[np.float64], codes: NDArray[np.int64], n_codes: int, radius: float) -> NDArray[np.int64]:
    """Number of other cells of each kind up to ``radius`` from each cell.

    The slice is worked on in bands, so that memory does not grow with the number of pairs.

    Parameters
    ----------
    pos, radius
        As in `count_within`.
    codes
        (N,) kind of each cell, 0 to ``n_codes`` - 1; a cell of negative kind is not
        counted, but counts those near it.
    n_codes
        Number of kinds.

    Returns
    -------
    ndarray
        (N, ``n_codes``) int64.

    Raises
    ------
    InputError
        As in `count_within`, or if there is not one kind for each cell.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.ball_counts import tally_within
    >>> tally_within(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), np.array([0, 1, 0]), 2, 2.0).tolist()
    [[0, 1], [2, 0], [0, 1]]
    """
    pos = checked_positions(pos)
    codes = np.ascontiguousarray(codes, dtype=np.int64)
    if codes.shape != (len(pos),) or codes.max(initial=-1) >= n_codes:
        raise InputError(f"{len(pos)} cells need a kind below {n_codes} each, not kinds of shape {codes.shape}.")
    if not (np.isfinite(radius) and radius >= 0):
        raise InputError(f"A radius must be finite and not negative, not {radius}.")
    counts = np.zeros((len(pos), n_codes), dtype=np.int64)
    reach = radius * (1 + TIE)
    for cells, around in _bands(pos, reach):
        order, start, neighbors = within_radius(pos[around], reach, index_dtype(len(around)))
        who = around[order]
        wanted = np.zeros(len(pos), dtype=bool)
        wanted[cells] = True
        in_chunks(_tally, len(who), who, codes[who], wanted[who], start, neighbors, counts)
    return counts


def _bands(pos: NDArray[np.float64], reach: float) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Cells of each band across the longer side of the slice, and with those near enough to matter."""
    along = pos[:, int(np.ptp(pos, axis=0).argmax())] if len(pos) else np.empty(0)
    order = np.argsort(along, kind="stable")
    sorted_along = along[order]
    n_bands = max(1, int(np.ceil(len(pos) * _mean_count(pos, reach) / _PAIRS)))
    # Rounding must not lose a cell at the very end of the reach.
    margin = reach * (1 + TIE)
    for band in np.array_split(np.arange(len(pos)), n_bands):
        if not len(band):
            continue
        first = np.searchsorted(sorted_along, sorted_along[band[0]] - margin, side="left")
        last = np.searchsorted(sorted_along, sorted_along[band[-1]] + margin, side="right")
        yield order[band], order[first:last]


def _mean_count(pos: NDArray[np.float64], reach: float) -> float:
    """About how many cells are near one."""
    if not len(pos):
        return 0.0
    sample = pos[:: max(len(pos) // _SAMPLE, 1)]
    return float(cKDTree(pos, balanced_tree=False).query_ball_point(sample, reach, return_length=True).mean())


@compiled
def _tally(first, last, who, codes, wanted, start, neighbors, counts):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        if not wanted[i]:
            continue
        own = who[i]
        for e in range(start[i], start[i + 1]):
            j = neighbors[e]
            if j != i and codes[j] >= 0:
                counts[own, codes[j]] += 1
