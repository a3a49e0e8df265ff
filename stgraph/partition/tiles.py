"""SToFM's sub-slices: square tiles of the bounding box."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition, check_part_size


@dataclass(frozen=True)
class SquareTiles:
    """Squares that would hold ``part_size`` cells each if cells filled the bounding box evenly.

    This is the ``split_graph`` of SToFM (PharMolix/SToFM, July 2025), for comparison with it, and
    has its defects:

    - Tiles have from 1 to ``2 * part_size - 1`` cells, few at the rim of the tissue. Of a strip
      that is all but a line, where squares are as small as the strip is thin, all have few.
    - A square with ``2 * part_size`` cells or more is cut in the order of the cells in the
      table, not by place, so that its tiles lie over one another.
    - Squares follow the axes of the page: a turned slice is cut otherwise.

    Where SToFM fails, this does not: a slice without extent along one axis is cut into as many
    equal lengths as an even tissue has squares; one whose cells all coincide, in the order of
    the cells. Cells on the far edge that rounding leaves in no square are in the last one.

    Parameters
    ----------
    part_size
        Wanted number of cells in a part; every part has less than twice as many.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.tiles import SquareTiles
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> bool((SquareTiles(part_size=100)(graph).sizes < 200).all())
    True
    """

    part_size: int = 1000

    def __post_init__(self) -> None:
        check_part_size(self, self.part_size)

    @property
    def max_size(self) -> int:
        """Most cells that a part can have."""
        return 2 * self.part_size - 1

    def __call__(self, graph: SliceGraph) -> Partition:
        """Parts of one slice, numbered along y, then along x; see `Partitioner`."""
        num_cells = len(graph)
        if num_cells <= self.part_size:
            return Partition.from_membership(np.zeros(num_cells, dtype=np.int64))
        square = _squares(graph.pos, num_cells // self.part_size + 1)
        order = np.argsort(square, kind="stable")
        shares = [share for size in np.bincount(square) for share in self._shares(int(size))]
        membership = np.empty(num_cells, dtype=np.int64)
        membership[order] = np.repeat(np.arange(len(shares)), shares)
        return Partition(membership, len(shares))

    def _shares(self, size: int) -> list[int]:
        """Sizes of the tiles of one square; the first are the larger ones, as ``np.array_split`` has it."""
        tiles = max(1, size // self.part_size)
        return [size // tiles + (i < size % tiles) for i in range(tiles)]


def _squares(pos: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Square of each cell, numbered along y, then along x, without gaps."""
    low, high = pos.min(axis=0), pos.max(axis=0)
    # A power of two: the product of the extents stays finite, and no digit changes.
    exponent = -np.frexp((high / 2 - low / 2).max())[1]
    pos, low, high = (np.ldexp(values, exponent) for values in (pos, low, high))
    extent = high - low
    side = float(np.sqrt(extent[0] * extent[1] / count))
    if side > 0:
        last = np.array([int(extent[0] / side), int(extent[1] // side)], dtype=np.float64)
    else:
        side, last = float(extent.max()) / count or 1.0, np.full(2, count - 1.0)
    row = np.floor((pos - low) / side)
    # Half-open squares between multiples of the side; the quotient can be off by one where a cell lies on an edge.
    row -= pos < low + row * side
    row += pos >= low + (row + 1) * side
    row = np.clip(row, 0, last)
    column, along = (np.unique(axis, return_inverse=True)[1] for axis in row.T)
    square: NDArray[np.int64] = np.unique(column * (int(along.max()) + 1) + along, return_inverse=True)[1]
    return square
