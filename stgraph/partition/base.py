"""What a partition is and what every partitioner promises."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import InputError
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

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.partition.base import Partition
    >>> partition = Partition.from_membership(np.array([7, 2, 7]))
    >>> partition.num_parts, partition.sizes.tolist(), partition.cells(1).tolist()
    (2, [1, 2], [0, 2])
    """

    membership: NDArray[np.int64]
    num_parts: int

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(P,) number of cells of each part."""
        return np.bincount(self.membership, minlength=self.num_parts).astype(np.int64)

    def cells(self, part: int) -> NDArray[np.int64]:
        """Cells of one part, in increasing order; `InputError` if there is no such part."""
        if not 0 <= part < self.num_parts:
            raise InputError(f"The partition has parts 0 to {self.num_parts - 1}, not {part}.")
        order, begin = self._grouped
        return order[begin[part] : begin[part + 1]].copy()

    @cached_property
    def _grouped(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # All parts at once: a search through all cells for each of a thousand parts would take seconds.
        begin = np.concatenate([[0], np.cumsum(self.sizes)])
        narrow = np.uint16 if self.num_parts <= 2**16 else np.int64  # numpy sorts 16 bits by radix
        return np.argsort(self.membership.astype(narrow), kind="stable"), begin

    @classmethod
    def from_membership(cls, membership: NDArray[np.integer]) -> "Partition":
        """Number the parts 0 to P - 1 without gaps."""
        names, dense = np.unique(membership, return_inverse=True)
        return cls(membership=dense.astype(np.int64), num_parts=len(names))


class Partitioner(Protocol):
    """Cuts a slice graph into parts.

    `stgraph.testing.partitioners.PartitionerContract` tests what is promised here.
    """

    @property
    def max_size(self) -> int:
        """Most cells that a part can have, whatever the slice."""
        ...

    def __call__(self, graph: SliceGraph) -> Partition:
        """Parts that cover all cells of ``graph`` and do not overlap; none is empty."""
        ...


def count_parts(num_cells: int, part_size: int) -> int:
    """Number of parts whose mean size is nearest to ``part_size``.

    Cut evenly, no part has more than `size_bound` cells.
    """
    return max(1, round(num_cells / part_size))


def size_bound(part_size: int) -> int:
    """Most cells of a part that is meant to have ``part_size``: half as many again."""
    return part_size + part_size // 2


def even_bounds(num_cells: int, num_parts: int) -> NDArray[np.int64]:
    """(P + 1,) where each of P even shares of a sequence begins; they differ by one cell at most."""
    return (np.arange(num_parts + 1, dtype=np.int64) * (2 * num_cells) + num_parts) // (2 * num_parts)


def check_part_size(partitioner: object, part_size: int) -> None:
    """Refuse part sizes that are no whole number, or below one."""
    if not isinstance(part_size, int | np.integer) or isinstance(part_size, bool):
        raise InputError(f"{type(partitioner).__name__} needs a whole number as its part_size, not {part_size!r}.")
    if part_size < 1:
        raise InputError(f"{type(partitioner).__name__} needs a part_size of at least 1, not {part_size}.")
