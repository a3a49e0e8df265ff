"""The radius at which cells have so many neighbours on average."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph._compiled import compiled
from stgraph.errors import InputError
from stgraph.graph.edges import index_dtype
from stgraph.graph.nearest import TIE
from stgraph.graph.spatial_order import checked_positions, spatial_order
from stgraph.graph.strips import within_radius

_SAMPLE = 2048
"""Cells counted around to find about where the radius is."""


def radius_for_mean_degree(pos: NDArray[np.float64], mean_degree: float) -> float:
    """Radius at which cells have ``mean_degree`` neighbours on average, as nearly as they can.

    Parameters
    ----------
    pos
        (N, 2) positions of one slice.
    mean_degree
        Mean number of neighbours of a cell, itself not counted.

    Returns
    -------
    float
        The distance of two of the cells, in the unit of ``pos``; of two that come as
        near, the larger. 0 if coincident cells alone are as many neighbours.

    Raises
    ------
    InputError
        If there are not more than ``mean_degree`` cells, or one has no place.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.mean_degree import radius_for_mean_degree
    >>> grid = np.stack(np.meshgrid(np.arange(50.0), np.arange(50.0)), -1).reshape(-1, 2)
    >>> radius_for_mean_degree(grid, 5)
    1.0
    """
    pos = checked_positions(pos)
    n = len(pos)
    if not n > mean_degree > 0 or n - 1 < mean_degree:
        raise InputError(
            f"The slice has {n} cells, too few for a mean degree of {mean_degree:g}: set mean_degree below {n} "
            f"(graph.mean_degree={max(n - 1, 1)}) or leave the slice out."
        )
    pos = pos[spatial_order(pos)]
    wanted = n * mean_degree / 2
    bound = _upper_bound(pos, mean_degree)
    while True:
        length = _pair_lengths(pos, bound)
        if len(length) >= wanted:
            last = int(np.ceil(wanted)) - 1
            above = float(np.partition(length, last)[last])
            if above * (1 + TIE) <= bound:
                break
        bound *= 1.25
    # Of lengths that tie, the shortest stands for all.
    enough = length * (1 + TIE) >= above
    larger = float(length[enough].min())
    if enough.all():
        return larger
    smaller = float(length[~enough].max())
    too_many, too_few = ((length <= radius * (1 + TIE)).sum() - wanted for radius in (larger, smaller))
    return smaller if abs(too_few) < abs(too_many) else larger


def _upper_bound(pos: NDArray[np.float64], mean_degree: float) -> float:
    """A radius a little larger than the one for the mean degree, found with a sample of the cells."""
    tree = cKDTree(pos, balanced_tree=False)
    # Evenly along the spatial order is evenly over the slice.
    sample = pos[:: max(len(pos) // _SAMPLE, 1)]

    def degree(radius: float) -> float:
        return float(tree.query_ball_point(sample, radius, return_length=True, workers=-1).mean()) - 1

    width, height = np.ptp(pos, axis=0)
    k = min(int(np.ceil(mean_degree)) + 1, len(pos))
    # Where most cells are; or, if coincident cells are the most, as if all were spread along a line.
    upper = float(np.median(tree.query(sample, k=[k], workers=-1)[0])) or (width + height) / len(pos)
    enough = 1.1 * mean_degree
    while degree(upper) < enough and upper < width + height:
        upper *= 2
    lower, coincident = upper / 2, degree(0.0)
    while degree(lower) >= enough and degree(lower) > coincident:
        lower, upper = lower / 2, lower
    for _ in range(4):
        middle = np.sqrt(lower * upper)
        lower, upper = (lower, middle) if degree(middle) >= enough else (middle, upper)
    return float(upper)


def _pair_lengths(pos: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    order, start, neighbors = within_radius(pos, radius, index_dtype(len(pos)))
    length = np.empty((len(neighbors) - len(pos)) // 2)
    return length[: _measure(pos[order], start, neighbors, length)]


@compiled
def _measure(pos, start, neighbors, length):  # type: ignore[no-untyped-def]
    size = 0
    for i in range(len(pos)):
        for e in range(start[i], start[i + 1]):
            j = neighbors[e]
            if j > i:
                dx, dy = pos[i, 0] - pos[j, 0], pos[i, 1] - pos[j, 1]
                length[size] = np.sqrt(dx * dx + dy * dy)
                size += 1
    return size
