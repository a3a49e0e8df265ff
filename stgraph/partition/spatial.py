"""Parts by where cells lie."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition, check_part_size, count_parts, even_bounds, size_bound


@dataclass(frozen=True)
class CoordinateBisection:
    """Halve the tissue along its longest extent until parts are small enough.

    Part sizes differ by one cell at most, whatever the shape of the tissue. A turned slice
    is cut the same way, except where cells tie or a piece is as long as it is wide.

    Parameters
    ----------
    part_size
        Wanted number of cells in a part; no part has more than half as many again.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.spatial import CoordinateBisection
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> CoordinateBisection(part_size=100)(graph).sizes.tolist()
    [100, 100, 100, 100]
    """

    part_size: int = 1000

    def __post_init__(self) -> None:
        check_part_size(self, self.part_size)

    @property
    def max_size(self) -> int:
        """Most cells that a part can have."""
        return size_bound(self.part_size)

    def __call__(self, graph: SliceGraph) -> Partition:
        """Parts of one slice; see `Partitioner`."""
        return Partition.from_membership(bisect(graph.pos, count_parts(len(graph), self.part_size)))


def bisect(pos: NDArray[np.float64], num_parts: int) -> NDArray[np.int64]:
    """Cut cells into even parts, each time across the longest extent.

    Parameters
    ----------
    pos
        (N, 2) positions.
    num_parts
        P.

    Returns
    -------
    ndarray
        (N,) int64, 0 to P - 1; part sizes differ by one cell at most.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.partition.spatial import bisect
    >>> np.bincount(bisect(np.random.default_rng(0).normal(size=(11, 2)), 4)).tolist()
    [3, 3, 2, 3]
    """
    membership = np.zeros(len(pos), dtype=np.int64)
    if num_parts > 1 and len(pos):
        low, high = pos.min(axis=0), pos.max(axis=0)
        # Powers of coordinates are taken below: scaled to one, none overflows or vanishes.
        reach = float((high / 2 - low / 2).max()) or 1.0
        unit = (pos / 2 - (low / 4 + high / 4)) / reach
        _bisect(unit, np.arange(len(pos)), 0, even_bounds(len(pos), num_parts), membership)
    return membership


def split_large(
    pos: NDArray[np.float64], membership: NDArray[np.int64], part_size: int, max_size: int
) -> NDArray[np.int64]:
    """Bisect the parts that have more than ``max_size`` cells into ones of about ``part_size``.

    Parameters
    ----------
    pos
        (N, 2) positions.
    membership
        (N,) part of each cell.
    part_size, max_size
        Wanted and largest size; the latter is not below `size_bound` of the former.

    Returns
    -------
    ndarray
        (N,) int64, not necessarily without gaps.
    """
    partition = Partition.from_membership(membership)
    split, next_part = partition.membership.copy(), partition.num_parts
    for part in np.flatnonzero(partition.sizes > max_size).tolist():
        cells = partition.cells(part)
        num_parts = count_parts(len(cells), part_size)
        split[cells] = next_part + bisect(pos[cells], num_parts)
        next_part += num_parts
    return split


def _bisect(
    pos: NDArray[np.float64],
    cells: NDArray[np.intp],
    first: int,
    bounds: NDArray[np.int64],
    membership: NDArray[np.int64],
) -> None:
    num_parts = len(bounds) - 1
    if num_parts == 1:
        membership[cells] = first
        return
    middle = num_parts // 2
    left = _first_along_extent(pos, int(bounds[middle] - bounds[0]))
    _bisect(pos[left], cells[left], first, bounds[: middle + 1], membership)
    _bisect(pos[~left], cells[~left], first + middle, bounds[middle:], membership)


def _first_along_extent(pos: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """The ``count`` cells at one end of the longest extent."""
    centred = pos - pos.mean(axis=0)
    # The longest extent is a principal axis, so that a rotated slice is cut the same way.
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    along = centred @ axis
    # Its direction is arbitrary; the heavier tail tells one end from the other.
    if (along * along * along).sum() < 0:
        along = -along
    # The value at the cut does not depend on how a machine sorts; among cells that tie there, the first go left.
    cut = np.partition(along, count)[count]
    left: NDArray[np.bool_] = along < cut
    ties = np.flatnonzero(along == cut)
    left[ties[: count - int(left.sum())]] = True
    return left
