"""What a partition is and what every partitioner promises."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stgraph.graph.slice_graph import SliceGraph


@dataclass(frozen=True)
class Partition:
    """Every cell of a slice in exactly one part.

    Attributes
    ----------
    membership
        (N,) int64, the part of each cell, 0 to P - 1; no part is empty.
    num_parts
        P.
    """

    membership: NDArray[np.int64]
    num_parts: int

    def cells(self, part: int) -> NDArray[np.int64]:
        """Cells of one part, in increasing order."""
        return np.flatnonzero(self.membership == part)

    @classmethod
    def from_membership(cls, membership: NDArray[np.integer]) -> "Partition":
        """Number the parts 0 to P - 1 without gaps."""
        _, dense = np.unique(membership, return_inverse=True)
        return cls(membership=dense.astype(np.int64), num_parts=int(dense.max()) + 1)


class Partitioner(Protocol):
    """Cuts a slice graph into parts."""

    def __call__(self, graph: SliceGraph) -> Partition:
        """Parts that cover all cells of ``graph`` and do not overlap."""
        ...


def count_parts(num_cells: int, part_size: int) -> int:
    """Fewest parts whose mean size does not exceed ``part_size`` by more than a half."""
    return max(1, round(num_cells / part_size))
