"""The graph of one tissue section, in numpy and scipy."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


@dataclass(frozen=True)
class VirtualCells:
    """Leiden clusters of a slice, aggregated: the supernodes of its graph.

    Attributes
    ----------
    membership
        (N,) int64, the virtual cell of each cell, 0 to V - 1.
    x
        (V, C) float32, mean feature of the members.
    pos
        (V, 2) float64, mean position of the members.
    num_cells
        (V,) int64, number of cells in it.
    parent
        Virtual cells of these virtual cells, a coarser level: its ``membership`` is (V,),
        its ``num_cells`` counts cells all the same. None if this level is the coarsest.
    """

    membership: NDArray[np.int64]
    x: NDArray[np.float32]
    pos: NDArray[np.float64]
    num_cells: NDArray[np.int64]
    parent: "VirtualCells | None" = None

    def __len__(self) -> int:
        return len(self.num_cells)


@dataclass(frozen=True)
class SliceGraph:
    """Cells, their neighbours and their virtual cells.

    Attributes
    ----------
    slice_id
        Name of the tissue section.
    x
        (N, C) float32, features of the cells.
    pos
        (N, 2) float64, positions.
    near
        (N, N) CSR float64, lengths of the edges between cells; explicit zeros are edges.
    virtual
        The virtual cells, or None.
    spacing
        Median distance of a cell to its nearest neighbour that lies elsewhere: the
        length models count in, so that they read slices of any unit and platform.
    unit
        Unit of ``pos``, ``near`` and ``spacing``: ``"um"`` or ``"unknown"``.
    origin
        (2,) float64, a point near the cells that float32 positions are counted from;
        None for their mean (see `centre`).
    """

    slice_id: str
    x: NDArray[np.float32]
    pos: NDArray[np.float64]
    near: sp.csr_matrix
    virtual: VirtualCells | None
    spacing: float
    unit: str
    origin: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.pos)

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """(2,) float64: `origin`, or the mean position, found once."""
        if self.origin is not None:
            return self.origin
        # As a float32, so that adding it to a float32 and taking it away again changes nothing.
        mean: NDArray[np.float64] = self.pos.mean(axis=0).astype(np.float32).astype(np.float64)
        return mean
