"""Who is whose neighbour: one small class for each answer."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph._compiled import compiled
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.graph.edges import groups_to_csr, index_dtype
from stgraph.graph.mean_degree import radius_for_mean_degree
from stgraph.graph.nearest import TIE, nearest_with_ties
from stgraph.graph.search import KDTreeSearch, NeighborSearch
from stgraph.graph.spatial_order import checked_positions, spatial_order

_DEFAULT_SEARCH = KDTreeSearch()


class GraphBuilder(Protocol):
    """Turns the positions of one slice into its edges."""

    @property
    def in_microns(self) -> bool:
        """Whether the parameters are lengths in microns, so that a slice of unknown unit cannot be used.

        A plain attribute, of the class or of the object, will do.
        """
        ...

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``.

        Parameters
        ----------
        pos
            (N, 2) positions of one slice.

        Returns
        -------
        csr_matrix
            (N, N) edge lengths; row i holds the neighbours of cell i in increasing
            order of index. An explicit zero is an edge between coincident cells; there
            are no self-loops.
        """
        ...


@dataclass(frozen=True)
class KNN:
    """The ``n_neighbors`` nearest cells of each cell.

    Cells that tie with the last neighbour are neighbours too, so that the graph depends
    neither on the order of the cells nor on a rotation of the slice (Visium spots tie
    by the dozen).

    Parameters
    ----------
    n_neighbors
        Neighbours of a cell, itself not counted.
    symmetric
        Add the reverse of every edge; cells in a dense place then have more neighbours.
        Without, row i holds the nearest of cell i only.
    search
        Who proposes candidates. The graph does not depend on it.

    Raises
    ------
    InputError
        If there are not more than ``n_neighbors`` cells, or one has no place.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> KNN(n_neighbors=1)(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])).toarray()
    array([[0., 1., 0.],
           [1., 0., 2.],
           [0., 2., 0.]])
    """

    n_neighbors: int = 18
    symmetric: bool = True
    search: NeighborSearch = _DEFAULT_SEARCH

    in_microns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_whole(self, "n_neighbors")

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``; see `GraphBuilder`."""
        pos = checked_positions(pos)
        order = spatial_order(pos)
        pos = pos[order]
        tables, reach = nearest_with_ties(pos, self.n_neighbors, self.search)
        start = np.zeros(len(pos) + 1, dtype=np.int64)
        for table in tables:
            _count_neighbors(pos, table.rows, table.index, table.count, reach, self.symmetric, start[1:])
        np.cumsum(start, out=start)
        neighbors = np.empty(start[-1], dtype=index_dtype(len(pos)))
        place = start[:-1].copy()
        for table in tables:
            _fill_neighbors(pos, table.rows, table.index, table.count, reach, self.symmetric, place, neighbors)
        return groups_to_csr(pos, start, neighbors, order=order)


@dataclass(frozen=True)
class Radius:
    """All cells within ``radius`` of each cell; there is no cap on their number.

    Parameters
    ----------
    radius
        Largest length of an edge, microns. Cells exactly as far as this, up to rounding,
        are neighbours.
    search
        Who proposes candidates. The graph does not depend on it.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import Radius
    >>> Radius(radius=2.5)(np.array([[0.0, 0.0], [1.0, 0.0], [3.5, 0.0]])).nnz
    4
    """

    radius: float = 50.0
    search: NeighborSearch = _DEFAULT_SEARCH

    in_microns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(self, "radius", " in microns")

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``; see `GraphBuilder`."""
        return _within(pos, self.radius, self.search)


@dataclass(frozen=True)
class RadiusByDegree:
    """All cells within a radius that is chosen for each slice by the mean number of neighbours.

    So slices of any density, unit and platform get graphs that are equally dense. See
    `radius_for_mean_degree` for the radius itself.

    Parameters
    ----------
    mean_degree
        Mean number of neighbours of a cell, come as near to as the cells allow: on an
        array only some numbers can be had.
    search
        Who proposes candidates. The graph does not depend on it.

    Raises
    ------
    InputError
        If there are not more than ``mean_degree`` cells, or one has no place.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import RadiusByDegree
    >>> pos = np.random.default_rng(0).random((500, 2))
    >>> float(RadiusByDegree(mean_degree=8)(pos).nnz / 500)
    8.0
    """

    mean_degree: float = 15.0
    search: NeighborSearch = _DEFAULT_SEARCH

    in_microns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self, "mean_degree")

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``; see `GraphBuilder`."""
        return _within(pos, radius_for_mean_degree(pos, self.mean_degree), self.search)


def _within(pos: NDArray[np.float64], radius: float, search: NeighborSearch) -> sp.csr_matrix:
    pos = checked_positions(pos)
    # Searched a little farther than kept, for a search may round otherwise than the lengths of edges.
    found = search.within(pos, radius * (1 + 2 * TIE))
    pos = pos[found.order]
    return groups_to_csr(pos, found.start, found.neighbors, longest=radius * (1 + TIE), order=found.order)


@compiled
def _is_mutual(pos, i, j, reach):  # type: ignore[no-untyped-def]
    """Whether cell j, too, counts cell i among its nearest."""
    dx, dy = pos[i, 0] - pos[j, 0], pos[i, 1] - pos[j, 1]
    return np.sqrt(dx * dx + dy * dy) <= reach[j]


@compiled
def _count_neighbors(pos, rows, index, count, reach, symmetric, degree):  # type: ignore[no-untyped-def]
    for m in range(len(rows)):
        i = rows[m]
        degree[i] += count[m]
        if symmetric:
            for e in range(count[m]):
                if not _is_mutual(pos, i, index[m, e], reach):
                    degree[index[m, e]] += 1


@compiled
def _fill_neighbors(pos, rows, index, count, reach, symmetric, place, neighbors):  # type: ignore[no-untyped-def]
    for m in range(len(rows)):
        i = rows[m]
        for e in range(count[m]):
            j = index[m, e]
            neighbors[place[i]] = j
            place[i] += 1
            if symmetric and not _is_mutual(pos, i, j, reach):
                neighbors[place[j]] = i
                place[j] += 1
