"""Neighbourhoods of a fixed size: each cell and its k nearest, as AIDO.Tissue reads them."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph._chunks import in_chunks
from stgraph._compiled import compiled
from stgraph.errors import InputError
from stgraph.graph.nearest import TIE, nearest_with_ties
from stgraph.graph.search import KDTreeSearch, NeighborSearch
from stgraph.graph.spatial_order import checked_positions, spatial_order

_DEFAULT_SEARCH = KDTreeSearch()


@dataclass(frozen=True)
class Neighborhoods:
    """The cells around each cell, nearest first.

    Attributes
    ----------
    index
        (N, K) int64, cells of the slice; -1 where a cell has no more neighbours.
    distance
        (N, K) float64, how far they are, in the unit of the positions; infinite where
        there is none.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)


def neighborhoods(
    pos: NDArray[np.float64],
    n_neighbors: int,
    *,
    include_self: bool = True,
    search: NeighborSearch = _DEFAULT_SEARCH,
) -> Neighborhoods:
    """Each cell with exactly its ``n_neighbors`` nearest [1]_.

    Of cells that are equally far (up to 1e-9 of the distance, so that turning the slice
    changes nothing) that with the lower index comes first, and is taken where not all
    can be. A graph that does not depend on the order of the cells is `KNN`'s.

    Parameters
    ----------
    pos
        (N, 2) positions of one slice.
    n_neighbors
        Neighbours of a cell, itself not counted: 8, 16, 32 or 64 in AIDO.Tissue.
    include_self
        Put the cell itself into the first column, also among coincident cells.
    search
        Who proposes candidates. The result does not depend on it.

    Returns
    -------
    Neighborhoods
        K is ``n_neighbors``, and one more with ``include_self``.

    Raises
    ------
    InputError
        If there are not more than ``n_neighbors`` cells, or one has no place.

    References
    ----------
    .. [1] GenBio AI. AIDO.Tissue: spatial cell-guided pretraining for scalable spatial
       transcriptomics foundation model, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.neighborhoods import neighborhoods
    >>> neighborhoods(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), 2).index
    array([[0, 1, 2],
           [1, 0, 2],
           [2, 1, 0]])
    """
    _check_size(n_neighbors)
    pos = checked_positions(pos)
    order = spatial_order(pos)
    pos = pos[order]
    out = _empty(len(pos), n_neighbors, include_self)
    for table in nearest_with_ties(pos, n_neighbors, search)[0]:
        in_chunks(
            _from_table, len(table.rows), pos, order, table.rows, table.index, table.count, int(include_self),
            out.index, out.distance,
        )  # fmt: skip
    return out


def neighborhoods_of(near: sp.csr_matrix, n_neighbors: int, *, include_self: bool = True) -> Neighborhoods:
    """Each cell with its nearest neighbours in a graph, at most ``n_neighbors``.

    Parameters
    ----------
    near
        (N, N) edge lengths; explicit zeros are edges, and self-loops are ignored.
    n_neighbors
        Neighbours of a cell, itself not counted.
    include_self
        Put the cell itself into the first column.

    Returns
    -------
    Neighborhoods
        As `neighborhoods` gives them, with -1 and infinite distance where a cell has
        fewer neighbours in the graph.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import Radius
    >>> from stgraph.graph.neighborhoods import neighborhoods_of
    >>> neighborhoods_of(Radius(2.5)(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])), 2).index
    array([[ 0,  1, -1],
           [ 1,  0,  2],
           [ 2,  1, -1]])
    """
    _check_size(n_neighbors)
    out = _empty(near.shape[0], n_neighbors, include_self)
    length = np.asarray(near.data, dtype=np.float64)
    in_chunks(_from_graph, len(out), near.indptr, near.indices, length, int(include_self), out.index, out.distance)
    return out


def _check_size(n_neighbors: int) -> None:
    if n_neighbors < 1:
        raise InputError(f"A neighbourhood needs n_neighbors of at least 1, not {n_neighbors}.")


def _empty(n: int, n_neighbors: int, include_self: bool) -> Neighborhoods:
    shape = (n, n_neighbors + include_self)
    out = Neighborhoods(np.full(shape, -1, dtype=np.int64), np.full(shape, np.inf))
    if include_self:
        out.index[:, 0] = np.arange(n)
        out.distance[:, 0] = 0
    return out


@compiled
def _from_table(first, last, pos, order, rows, index, count, offset, out_index, out_distance):  # type: ignore[no-untyped-def]
    for m in range(first, last):
        i = rows[m]
        cells = np.empty(count[m], dtype=np.int64)
        length = np.empty(count[m])
        for e in range(count[m]):
            j = index[m, e]
            dx, dy = pos[i, 0] - pos[j, 0], pos[i, 1] - pos[j, 1]
            cells[e], length[e] = order[j], np.sqrt(dx * dx + dy * dy)
        _write(cells, length, offset, out_index[order[i]], out_distance[order[i]])


@compiled
def _from_graph(first, last, indptr, indices, data, offset, out_index, out_distance):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        cells = indices[indptr[i] : indptr[i + 1]].astype(np.int64)
        other = cells != i
        _write(cells[other], data[indptr[i] : indptr[i + 1]][other], offset, out_index[i], out_distance[i])


@compiled
def _write(cells, length, offset, out_index, out_distance):  # type: ignore[no-untyped-def]
    """Nearest first, the lower index first of those that tie."""
    size = len(cells)
    by_length = np.argsort(length)
    cells, length = cells[by_length], length[by_length]
    kept = min(size, len(out_index) - offset)
    start = 0
    while start < kept:
        stop = start + 1
        while stop < size and length[stop] <= length[start] * (1 + TIE):
            stop += 1
        if stop - start > 1:
            by_index = np.argsort(cells[start:stop])
            cells[start:stop] = cells[start:stop][by_index]
            length[start:stop] = length[start:stop][by_index]
        start = stop
    out_index[offset : offset + kept] = cells[:kept]
    out_distance[offset : offset + kept] = length[:kept]
