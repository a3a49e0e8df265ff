"""Parts along a curve that fills the plane."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stgraph._compiled import compiled
from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition, check_part_size, count_parts, even_bounds, size_bound

_BITS = 26
"""Of each coordinate: a metre of tissue to 15 nanometres, and two of them in one integer."""


@dataclass(frozen=True)
class SpaceFillingCurve:
    """Blocks of consecutive cells along a Hilbert curve.

    The fastest of the partitioners. Part sizes differ by one cell at most, and parts that follow each
    other are neighbours. How the slice lies on the page matters: turned, it is cut otherwise.

    Parameters
    ----------
    part_size
        Wanted number of cells in a part; no part has more than half as many again.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.space_filling import SpaceFillingCurve
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> SpaceFillingCurve(part_size=100)(graph).sizes.tolist()
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
        num_parts = count_parts(len(graph), self.part_size)
        membership = np.empty(len(graph), dtype=np.int64)
        shares = np.diff(even_bounds(len(graph), num_parts))
        membership[hilbert_order(graph.pos)] = np.repeat(np.arange(num_parts), shares)
        return Partition.from_membership(membership)


def hilbert_order(pos: NDArray[np.floating]) -> NDArray[np.int64]:
    """Order of cells along a Hilbert curve (Hilbert 1891) through their bounding square.

    Cells that are near in the order are near in the tissue, so data laid out in it are
    read from one place for any region. Coincident cells keep their order.

    Parameters
    ----------
    pos
        (N, 2) finite positions, of any unit and magnitude.

    Returns
    -------
    ndarray
        (N,) int64, a permutation: ``pos[hilbert_order(pos)]`` runs along the curve.

    Raises
    ------
    InputError
        If positions are not of shape (N, 2) or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.partition.space_filling import hilbert_order
    >>> hilbert_order(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])).tolist()
    [0, 2, 3, 1]
    """
    pos = np.asarray(pos, dtype=np.float64)
    if pos.ndim != 2 or pos.shape[1] != 2 or not np.isfinite(pos).all():
        raise InputError(f"A Hilbert curve needs finite positions of shape (N, 2); these are of shape {pos.shape}.")
    if len(pos) == 0:
        return np.zeros(0, dtype=np.int64)
    # Halves, because the extent of a slice from -1e308 to 1e308 is no number.
    offset = pos / 2 - pos.min(axis=0) / 2
    side = float(offset.max())
    steps = 2**_BITS - 1
    grid = (offset / side * steps).astype(np.int64) if side > 0 else np.zeros(pos.shape, dtype=np.int64)
    return np.argsort(_along_curve(grid), kind="stable")


@compiled
def _along_curve(grid):  # type: ignore[no-untyped-def]
    """Distance along the curve of points of a square grid, quadrant by quadrant from the largest."""
    key = np.empty(len(grid), dtype=np.int64)
    for i in range(len(grid)):
        x, y, distance = grid[i, 0], grid[i, 1], 0
        for bit in range(_BITS - 1, -1, -1):
            right, upper = (x >> bit) & 1, (y >> bit) & 1
            distance = (distance << 2) | ((3 * right) ^ upper)
            # The curve in the two lower quadrants is mirrored at a diagonal, so that quadrants join.
            if upper == 0:
                if right == 1:
                    x, y = ~x, ~y
                x, y = y, x
        key[i] = distance
    return key
