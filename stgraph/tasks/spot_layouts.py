"""Where spots lie on a slice, and which cells each of them covers."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive


class SpotLayout(Protocol):
    """Lays spots over the cells of one slice; no cell is in two of them."""

    def __call__(self, pos: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Spots, and the spot of each cell.

        Parameters
        ----------
        pos
            (N, 2) microns.

        Returns
        -------
        centers : ndarray
            (M, 2) microns.
        spot : ndarray
            (N,) which of them covers a cell, -1 for none.
        """
        ...


@dataclass(frozen=True)
class SquareSpots:
    """Squares side by side, as in Visium HD: every cell is in one.

    Parameters
    ----------
    side
        Microns.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.spot_layouts import SquareSpots
    >>> SquareSpots(10.0)(np.array([[0.0, 0.0], [4.0, 9.0], [11.0, 0.0]]))[1]
    array([0, 0, 1])
    """

    side: float = 55.0

    def __post_init__(self) -> None:
        check_positive(self, "side", " in microns")

    def __call__(self, pos: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Squares that hold cells, counted from the lower left corner of the cells."""
        corner = pos.min(axis=0)
        places = np.floor((pos - corner) / self.side).astype(np.int64)
        squares, spot = np.unique(places, axis=0, return_inverse=True)
        return corner + (squares + 0.5) * self.side, spot.ravel().astype(np.int64)


@dataclass(frozen=True)
class HexagonalSpots:
    """Discs on a hexagonal lattice, as in Visium: 55 microns wide, 100 apart; cells between them are lost.

    Parameters
    ----------
    diameter
        Of a spot, microns.
    spacing
        From centre to centre, microns; no less than the diameter.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.spot_layouts import HexagonalSpots
    >>> HexagonalSpots()(np.array([[0.0, 0.0], [50.0, 0.0], [99.0, 3.0]]))[1]
    array([ 0, -1,  1])
    """

    diameter: float = 55.0
    spacing: float = 100.0

    def __post_init__(self) -> None:
        check_positive(self, "diameter", " in microns")
        check_positive(self, "spacing", " in microns")
        if self.diameter > self.spacing:
            raise InputError(
                f"HexagonalSpots needs spots no wider than they are apart, or a cell is in two: {self.diameter:g} "
                f"microns do not fit into {self.spacing:g}."
            )

    def __call__(self, pos: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The lattice from the lower left corner of the cells on."""
        corner, extent = pos.min(axis=0), np.ptp(pos, axis=0)
        height = self.spacing * np.sqrt(0.75)
        n_columns, n_rows = int(extent[0] // self.spacing) + 2, int(extent[1] // height) + 2
        row, column = np.divmod(np.arange(n_rows * n_columns), n_columns)
        lattice = np.stack([(column + row % 2 / 2) * self.spacing, row * height], axis=1)
        return SpotsAt(corner + lattice, self.diameter)(pos)


@dataclass(frozen=True)
class SpotsAt:
    """Discs at given places: the spots of a real section in the frame of a single-cell one.

    Parameters
    ----------
    centers
        (M, 2) microns, in the frame of the cells.
    diameter
        Microns. Where discs overlap, a cell is in the nearest.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.spot_layouts import SpotsAt
    >>> SpotsAt(np.array([[0.0, 0.0], [100.0, 0.0]]), 55.0)(np.array([[90.0, 0.0], [50.0, 0.0]]))[1]
    array([ 1, -1])
    """

    centers: NDArray[np.float64]
    diameter: float = 55.0

    def __post_init__(self) -> None:
        check_positive(self, "diameter", " in microns")
        centers = np.asarray(self.centers, dtype=np.float64)
        if centers.ndim != 2 or centers.shape[1] != 2 or len(centers) == 0 or not np.isfinite(centers).all():
            raise InputError(f"SpotsAt needs centers of shape (M, 2), finite, M > 0, not of shape {centers.shape}.")
        object.__setattr__(self, "centers", centers)

    def __call__(self, pos: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The given spots, all of them, in their order."""
        distance, nearest = cKDTree(self.centers).query(pos)
        return self.centers, np.where(distance <= self.diameter / 2, nearest, -1).astype(np.int64)
