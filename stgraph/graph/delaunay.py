"""Neighbours by the Delaunay triangulation."""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay as Triangulation

from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.edges import edges_to_csr
from stgraph.graph.nearest import TIE
from stgraph.graph.spatial_order import checked_positions, spatial_order

_MOST_ON_A_CIRCLE = 1000
"""Cells of one empty circle beyond which their pairs would be too many."""


@dataclass(frozen=True)
class Delaunay:
    """Cells that share an edge of the Delaunay triangulation.

    Two cells are neighbours if some circle through both has no other cell inside. Where
    more than three cells lie on such a circle, as on every lattice, the triangulation is
    not unique, and all pairs on the circle are neighbours: then the graph depends neither
    on the order of the cells nor on a rotation of the slice. Cells at one place are
    neighbours of each other and have the same other neighbours.

    The triangulation spans gaps and concave outlines of tissue with long edges, above
    all where the outermost cells are nearly on a line, as the pixel positions of arrays
    are: give ``max_length``, or prune with `stgraph.graph.pruning.LengthPercentile`.

    Parameters
    ----------
    max_length
        Largest length of an edge, microns; None for no limit.

    References
    ----------
    B. Delaunay, "Sur la sphère vide", 1934; computed by Qhull (Barber et al., 1996).

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.delaunay import Delaunay
    >>> Delaunay()(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])).toarray().round(2)
    array([[0.  , 1.  , 1.  , 0.  ],
           [1.  , 0.  , 1.41, 3.61],
           [1.  , 1.41, 0.  , 3.61],
           [0.  , 3.61, 3.61, 0.  ]])
    """

    max_length: float | None = None

    def __post_init__(self) -> None:
        if self.max_length is not None and not (np.isfinite(self.max_length) and self.max_length > 0):
            raise InputError(f"Delaunay needs a positive max_length in microns, or none, not {self.max_length}.")

    @property
    def in_microns(self) -> bool:
        """Whether there is a limit on the length."""
        return self.max_length is not None

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``; see `stgraph.graph.builders.GraphBuilder`."""
        pos = checked_positions(pos)
        order = spatial_order(pos)
        pos = pos[order]
        places, place = _distinct(pos)
        pairs, place_of_place = _triangulated(places)
        place = place_of_place[place]
        if self.max_length is not None:
            step = places[pairs[:, 0]] - places[pairs[:, 1]]
            pairs = pairs[np.hypot(step[:, 0], step[:, 1]) <= self.max_length * (1 + TIE)]
        row, col = _between_cells(pairs, place)
        return edges_to_csr(pos, row, col, symmetric=True, order=order)


def _distinct(pos: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct places, and the place of each cell."""
    order = np.lexsort((pos[:, 1], pos[:, 0]))
    ordered = pos[order]
    new = np.ones(len(pos), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    place = np.empty(len(pos), dtype=np.int64)
    place[order] = np.cumsum(new) - 1
    return ordered[new], place


def _between_cells(pairs: NDArray[np.int64], place: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of cells of neighbouring places, and of cells of one place."""
    count = np.bincount(place, minlength=1)
    order = np.argsort(place, kind="stable")
    if (count == 1).all():
        return order[pairs[:, 0]], order[pairs[:, 1]]
    shared = np.flatnonzero(count > 1)
    p, q = np.concatenate([pairs, np.stack([shared, shared], axis=1)]).T
    first = np.cumsum(count) - count
    n_pairs = count[p] * count[q]
    within = np.arange(n_pairs.sum()) - np.repeat(np.cumsum(n_pairs) - n_pairs, n_pairs)
    p, q = np.repeat(p, n_pairs), np.repeat(q, n_pairs)
    return order[first[p] + within // count[q]], order[first[q] + within % count[q]]


def _triangulated(places: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of neighbouring places, and the place that stands for each place."""
    same = np.arange(len(places))
    magnitude = float(np.abs(places).max(initial=0.0))
    centred = places - places.mean(axis=0) if len(places) else places
    along = _line(centred, magnitude)
    if along is not None:
        order = np.argsort(along, kind="stable")
        return np.stack([order[:-1], order[1:]], axis=1), same
    found = Triangulation(centred)
    triangles, across = found.simplices.astype(np.int64), found.neighbors.astype(np.int64)
    noise = 8 * np.finfo(float).eps * magnitude
    # Qhull leaves out places that rounding does not tell from another.
    left_out, nearest = found.coplanar[:, 0], found.coplanar[:, 2]
    same[left_out] = nearest
    n_merged = np.count_nonzero(np.abs(centred[left_out] - centred[nearest]).max(axis=1, initial=0.0) > noise)
    if n_merged:
        warnings.warn(
            f"Delaunay: {n_merged} cells are so close to others, for the size of the slice, that rounding does not "
            "tell them apart: they count as cells of one place.",
            StgraphWarning,
            stacklevel=3,
        )
    flat, artefacts = _hull_slivers(centred, triangles, across, noise)
    triangle, corner = np.nonzero(across < np.arange(len(triangles))[:, None])
    pairs = np.stack([triangles[triangle, (corner + 1) % 3], triangles[triangle, (corner + 2) % 3]], axis=1)
    if len(artefacts):
        drop = np.zeros(triangles.shape, dtype=bool)
        drop[artefacts[:, 0], artefacts[:, 1]] = True
        pairs = pairs[~drop[triangle, corner]]
    return np.concatenate([pairs, _polygon_pairs(centred, triangles, across, flat, noise)]), same


def _line(centred: NDArray[np.float64], magnitude: float) -> NDArray[np.float64] | None:
    """Coordinates along the line on which all places lie; None if they do not."""
    if len(centred) < 3:
        return np.arange(len(centred), dtype=np.float64)
    far = centred[np.argmax((centred**2).sum(axis=1))]
    direction = far / np.hypot(*far)
    away = np.abs(centred @ np.array([-direction[1], direction[0]])).max()
    if away > TIE * np.hypot(*far) + 8 * np.finfo(float).eps * magnitude:
        return None
    return np.asarray(centred @ direction)


def _hull_slivers(
    pos: NDArray[np.float64], triangles: NDArray[np.int64], across: NDArray[np.int64], noise: float
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Flat triangles on the hull, and their longest sides.

    Where the outermost cells are on a line, rounding puts some of them inside of it by
    nothing, and flat triangles span the line with sides on which other cells lie.

    Returns
    -------
    flat
        (T,) whether each triangle is one.
    sides
        (S, 2) triangle and corner opposite, of every side to leave out, from both triangles it belongs to.
    """
    corners = pos[triangles]
    side = np.roll(corners, -2, axis=1) - np.roll(corners, -1, axis=1)
    length = np.hypot(side[..., 0], side[..., 1])
    longest = length.argmax(axis=1)
    top = length.max(axis=1)
    twice_area = np.abs(side[:, 0, 0] * side[:, 1, 1] - side[:, 0, 1] * side[:, 1, 0])
    thin = twice_area <= (TIE * top + noise) * top
    flat = np.zeros(len(triangles), dtype=bool)
    sides = []
    waiting = [t for t in np.flatnonzero(thin) if across[t, longest[t]] < 0]
    while waiting:
        t = waiting.pop()
        if flat[t]:
            continue
        flat[t] = True
        k = longest[t]
        sides.append((t, k))
        other = across[t, k]
        if other >= 0:
            sides.append((other, int(np.flatnonzero(across[other] == t)[0])))
        for neighbor in across[t]:
            # Its longest side is on the hull once this triangle is gone.
            if neighbor >= 0 and thin[neighbor] and across[neighbor, longest[neighbor]] == t:
                waiting.append(neighbor)
    return flat, np.array(sides, dtype=np.int64).reshape(-1, 2)


def _polygon_pairs(
    pos: NDArray[np.float64],
    triangles: NDArray[np.int64],
    across: NDArray[np.int64],
    flat: NDArray[np.bool_],
    noise: float,
) -> NDArray[np.int64]:
    """All pairs of the corners of adjacent triangles with the same circumcircle, (pairs, 2)."""
    t, k = np.nonzero(across > np.arange(len(triangles))[:, None])
    u = across[t, k]
    inner = ~(flat[t] | flat[u])
    t, k, u = t[inner], k[inner], u[inner]
    back = np.argmax(across[u] == t[:, None], axis=1)
    a, b = pos[triangles[t, (k + 1) % 3]], pos[triangles[t, (k + 2) % 3]]
    sine = _sine_of_sum(a, b, pos[triangles[t, k]], pos[triangles[u, back]])
    tied = np.abs(sine[0]) <= TIE + noise * sine[1]
    t, u = t[tied], u[tied]
    if len(t) == 0:
        return np.empty((0, 2), dtype=np.int64)
    involved = np.zeros(len(triangles), dtype=bool)
    involved[t] = involved[u] = True
    index, m = np.cumsum(involved) - 1, np.count_nonzero(involved)
    joined = sp.coo_matrix((np.ones(len(t)), (index[t], index[u])), shape=(m, m))
    _, polygon = connected_components(joined, directed=False)
    n = len(pos)
    corner = np.sort(np.repeat(polygon.astype(np.int64), 3) * n + triangles[involved].ravel())
    corner = corner[np.diff(corner, prepend=-1) > 0]
    polygon, corner = corner // n, corner % n
    size = np.bincount(polygon)
    if size.max() > _MOST_ON_A_CIRCLE:
        raise InputError(
            f"{size.max()} cells lie on one circle with none inside, so that all pairs of them would be Delaunay "
            "neighbours: use k nearest neighbours (KNN)."
        )
    start = np.cumsum(size) - size
    pairs = []
    for each in np.unique(size):
        corners = corner[start[size == each][:, None] + np.arange(each)]
        i, j = np.triu_indices(each, k=1)
        pairs.append(np.stack([corners[:, i].ravel(), corners[:, j].ravel()], axis=1))
    return np.concatenate(pairs)


def _sine_of_sum(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine of the sum of the angles over ``ab`` at ``c`` and ``d``, and how it answers to rounding.

    The sum is half a turn, and its sine zero, if and only if the four are on one circle.
    """
    sine, cosine, response = [], [], np.zeros(len(a))
    for apex in (c, d):
        x, y = a - apex, b - apex
        scale = np.hypot(x[:, 0], x[:, 1]) * np.hypot(y[:, 0], y[:, 1])
        sine.append(np.abs(x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]) / scale)
        cosine.append((x * y).sum(axis=1) / scale)
        response += 1 / np.hypot(x[:, 0], x[:, 1]) + 1 / np.hypot(y[:, 0], y[:, 1])
    return sine[0] * cosine[1] + cosine[0] * sine[1], response
