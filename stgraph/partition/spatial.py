"""Parts by where cells lie."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition, count_parts


@dataclass(frozen=True)
class CoordinateBisection:
    """Halve the tissue along its longest extent until parts are small enough.

    Parts differ by one cell at most from an even split, whatever the shape of the tissue.

    Parameters
    ----------
    part_size
        Wanted number of cells in a part.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.spatial import CoordinateBisection
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> CoordinateBisection(part_size=100)(graph).num_parts
    4
    """

    part_size: int = 1000

    def __post_init__(self) -> None:
        if self.part_size < 1:
            raise InputError(f"CoordinateBisection needs a positive part_size, not {self.part_size}.")

    def __call__(self, graph: SliceGraph) -> Partition:
        """Parts of one slice; see `Partitioner`."""
        membership = np.zeros(len(graph), dtype=np.int64)
        _bisect(graph.pos, np.arange(len(graph)), count_parts(len(graph), self.part_size), 0, membership)
        return Partition.from_membership(membership)


def _bisect(
    pos: NDArray[np.float64],
    cells: NDArray[np.intp],
    num_parts: int,
    first: int,
    membership: NDArray[np.int64],
) -> None:
    if num_parts == 1:
        membership[cells] = first
        return
    left_parts = num_parts // 2
    centred = pos[cells] - pos[cells].mean(axis=0)
    # The longest extent is a principal axis, so that a rotated slice is cut the same way.
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    along = centred @ axis
    # Its direction is arbitrary; the heavier tail tells one end from the other.
    order = np.argsort(along * np.copysign(1.0, (along**3).sum()), kind="stable")
    cut = round(len(cells) * left_parts / num_parts)
    _bisect(pos, cells[order[:cut]], left_parts, first, membership)
    _bisect(pos, cells[order[cut:]], num_parts - left_parts, first + left_parts, membership)
