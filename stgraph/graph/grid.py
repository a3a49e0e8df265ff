"""Neighbours on the arrays of Visium, Stereo-seq and the like: lattices found from the positions alone."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.edges import edges_to_csr
from stgraph.graph.spatial_order import checked_positions, spatial_order

_TOLERANCE = 0.25
"""How far, in spacings, steps between cells end from points of the lattice if there is one."""

_NEAREST = 0.43
"""How far, in spacings, rounding of coordinates finds the nearest point of either lattice: sqrt(3) / 4."""

_MOST_OFF = 0.1
"""Share of cells off the lattice from which on it is none."""

_MOST_STRETCHED = 1.25
"""Largest ratio of the two stretches of a lattice; sqrt(3) would turn squares into hexagons."""

_NAMES = {6: "hexagonal grid", 4: "square grid"}
_OTHER = {6: "SquareGrid (graph=square)", 4: "HexGrid (graph=visium)"}

Rings = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""(..., 2) steps in lattice coordinates to the number of rings they cross."""


@dataclass(frozen=True)
class HexGrid:
    """Spots of a hexagonal array (Visium) within ``n_rings`` rings: 6, 18, 36, ... neighbours.

    Spacing and orientation of the array are found from the positions. Rings are counted
    on the array, so spots outside of the tissue do not matter. Positions may be off by a
    quarter of the spacing, and the array a little sheared and stretched, as registered
    images are.

    Parameters
    ----------
    n_rings
        Rings of neighbours around a spot.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.grid import HexGrid
    >>> pos = np.array([[x + y / 2, y * np.sqrt(3) / 2] for x in range(5) for y in range(5)])
    >>> near = HexGrid()(137 * pos)
    >>> near[12].indices, near[12].data.round(3)
    (array([ 7,  8, 11, 13, 16, 17], dtype=int32), array([137., 137., 137., 137., 137., 137.]))
    """

    n_rings: int = 1

    in_microns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_rings("HexGrid", self.n_rings)

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the spots at ``pos``; see `stgraph.graph.builders.GraphBuilder`.

        Raises
        ------
        InputError
            If more than a tenth of the cells are not on such an array.
        """
        return _on_lattice(pos, 6, _hexagonal_rings, self.n_rings)


@dataclass(frozen=True)
class SquareGrid:
    """Bins of a square array (Visium HD, Stereo-seq, ST) within ``n_rings`` rings.

    As `HexGrid`, for squares.

    Parameters
    ----------
    n_rings
        Rings of neighbours around a bin.
    diagonal
        Whether bins that touch at a corner are a step apart (8, 24, 48, ... neighbours) or
        two (4, 12, 24, ... neighbours).

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.grid import SquareGrid
    >>> pos = 8.0 * np.array([[x, y] for x in range(3) for y in range(3)])
    >>> SquareGrid()(pos)[4].indices, SquareGrid(diagonal=False)(pos)[4].indices
    (array([0, 1, 2, 3, 5, 6, 7, 8], dtype=int32), array([1, 3, 5, 7], dtype=int32))
    """

    n_rings: int = 1
    diagonal: bool = True

    in_microns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_rings("SquareGrid", self.n_rings)

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the bins at ``pos``; see `stgraph.graph.builders.GraphBuilder`.

        Raises
        ------
        InputError
            If more than a tenth of the cells are not on such an array.
        """
        return _on_lattice(pos, 4, _king_moves if self.diagonal else _rook_moves, self.n_rings)


def _check_rings(name: str, n_rings: int) -> None:
    if n_rings < 1:
        raise InputError(f"{name} needs n_rings of at least 1, not {n_rings}.")


def _hexagonal_rings(step: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(np.abs(step).max(axis=-1), np.abs(step.sum(axis=-1))))


def _king_moves(step: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.abs(step).max(axis=-1))


def _rook_moves(step: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.abs(step).sum(axis=-1))


def _on_lattice(pos: NDArray[np.float64], fold: int, rings: Rings, n_rings: int) -> sp.csr_matrix:
    pos = checked_positions(pos)
    order = spatial_order(pos)
    pos = pos[order]
    basis, spacing = _lattice(pos, fold)
    axis = np.arange(-n_rings, n_rings + 1)
    steps = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float64)
    farthest = np.linalg.norm(steps[rings(steps) <= n_rings] @ basis, axis=1).max()
    pairs = cKDTree(pos).query_pairs(farthest + _NEAREST * spacing, output_type="ndarray")
    coordinates, off = _coordinates(pos[pairs[:, 1]] - pos[pairs[:, 0]], basis)
    pairs = pairs[(rings(coordinates) <= n_rings) & (off <= _NEAREST * spacing)]
    return edges_to_csr(pos, pairs[:, 0], pairs[:, 1], symmetric=True, order=order)


def _lattice(pos: NDArray[np.float64], fold: int) -> tuple[NDArray[np.float64], float]:
    """The two steps, (2, 2), of the lattice of ``fold``-fold symmetry on which cells lie, and its spacing."""
    step, length = _short_steps(pos, fold)
    if len(step) == 0:  # nothing but a single place, where any lattice will do
        return np.eye(2), 1.0
    least = 1.0
    # In sparse samples of an array most bins lack their nearest neighbours on it.
    for quantile in (0.5, 0.05, 0.0):
        basis = _fitted(step.reshape(-1, 2), length.ravel(), float(np.quantile(length[:, 0], quantile)), fold)
        spacing, stretch = _shape(basis, fold)
        share = _share_off(step, length, basis, spacing) if stretch <= _MOST_STRETCHED else 1.0
        least = min(least, share)
        if share <= _MOST_OFF:
            if share > 0:
                warnings.warn(
                    f"{_percent(share)} of the cells are off the {_NAMES[fold]} of the others by more than a quarter "
                    f"of its spacing ({spacing:.4g}) and may have few neighbours, or none.",
                    StgraphWarning,
                    stacklevel=4,
                )
            return basis, spacing
    raise InputError(
        f"{_percent(least)} of the cells do not lie on a {_NAMES[fold]}: use k nearest neighbours or Delaunay "
        f"(graph=knn, graph=delaunay), or {_OTHER[fold]} if it is one."
    )


def _short_steps(pos: NDArray[np.float64], n_neighbors: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From each place to the nearest other places: steps (M, K, 2) and their lengths (M, K), nearest first."""
    while True:
        k = min(n_neighbors + 1, len(pos))
        if k < 2:
            return np.empty((0, 0, 2)), np.empty((0, 0))
        length, neighbor = cKDTree(pos).query(pos, k=k, workers=-1)
        if (length[:, 1] > 0).all():
            return pos[neighbor[:, 1:]] - pos[:, None], length[:, 1:]
        pos = np.unique(pos, axis=0)


def _share_off(
    step: NDArray[np.float64], length: NDArray[np.float64], basis: NDArray[np.float64], spacing: float
) -> float:
    """Share of places of which more than a quarter of the short steps, or the only one, end off the lattice."""
    checked = length <= 1.5 * spacing
    checked[:, 0] = True  # also a place far from all others has to fit
    off = checked & (_coordinates(step, basis)[1] > _TOLERANCE * spacing)
    return float(np.mean(4 * off.sum(axis=1) > checked.sum(axis=1)))


def _shape(basis: NDArray[np.float64], fold: int) -> tuple[float, float]:
    """Spacing of a lattice, and how much longer the regular lattice is stretched one way than the other."""
    stretch = np.linalg.svd(np.linalg.solve(_regular(1.0, 0.0, fold), basis), compute_uv=False)
    return float(np.sqrt(stretch.prod())), float(stretch[0] / max(stretch[1], np.finfo(float).tiny))


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.1 else f"{share:.0%}"


def _fitted(step: NDArray[np.float64], length: NDArray[np.float64], spacing: float, fold: int) -> NDArray[np.float64]:
    """The lattice of about this spacing that fits the steps between cells best."""
    short = step[length <= (1 + _TOLERANCE) * spacing]
    angle = np.arctan2(short[:, 1], short[:, 0])
    basis = _regular(spacing, float(np.angle(np.exp(1j * fold * angle).sum())) / fold, fold)
    reach = 1 + _TOLERANCE
    # Long steps tell more, but are only understood by a basis that is right already.
    while True:
        within = length <= reach * spacing
        coordinates, off = _coordinates(step[within], basis)
        fits = off <= _TOLERANCE * spacing
        c = coordinates[fits]
        # The pseudo-inverse leaves alone what steps along one line do not tell.
        basis = basis + np.linalg.pinv(c.T @ c) @ c.T @ (step[within][fits] - c @ basis)
        if within.all():
            return basis
        reach *= 2


def _regular(spacing: float, angle: float, fold: int) -> NDArray[np.float64]:
    directions = angle + np.array([0.0, 2 * np.pi / fold])
    return spacing * np.stack([np.cos(directions), np.sin(directions)], axis=1)


def _coordinates(
    step: NDArray[np.float64], basis: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps to the nearest point of the lattice: its coordinates, and the distance to it."""
    coordinates = np.rint(step @ np.linalg.inv(basis))
    return coordinates, np.linalg.norm(step - coordinates @ basis, axis=-1)
