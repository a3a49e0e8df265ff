"""Who is most like whom: nearest neighbours in the space of the features, up to millions of cells.

Neighbours in fifty dimensions cannot be found by a tree: exact search compares all pairs. Beyond
some size an inverted file does instead: the cells are grouped into lists of some hundred similar
cells, and a cell is compared with the cells of the lists that are nearest to its own. All of the work
is then products of small matrices, and the cost of a cell hardly depends on how many there are.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from stgraph._compiled import compiled
from stgraph.errors import InputError

_LIST_SIZE = 512
_LARGEST_LIST = 1024
_CANDIDATES = 12_288
"""Cells that a cell is compared with, at least: those of the nearest lists."""

_SAMPLE_PER_LIST = 32
_LLOYD_STEPS = 5


def expression_neighbors(
    x: NDArray[np.floating], n_neighbors: int, *, random_state: int = 0, exact_up_to: int = 20_000
) -> NDArray[np.int64]:
    """The ``n_neighbors`` cells with the nearest features (Euclidean) of each cell.

    Parameters
    ----------
    x
        (N, C) features, finite.
    n_neighbors
        K, the neighbours of a cell, itself not counted; less than N.
    random_state
        Seed of the grouping into lists; of no effect where the search is exact.
    exact_up_to
        Up to so many cells the search is exact. Beyond, about 1 to 10 % of the neighbours are
        missed for others almost as near (the inverted file of Jegou, Douze & Schmid, 2011).

    Returns
    -------
    ndarray
        (N, K) int64, by increasing distance.

    Raises
    ------
    InputError
        If there are too few cells, or features are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.expression_neighbors import expression_neighbors
    >>> expression_neighbors(np.array([[0.0], [1.0], [3.0]]), 1).tolist()
    [[1], [0], [1]]
    """
    n = len(x)
    if not 1 <= n_neighbors < n:
        raise InputError(f"Each of {n} cells has at most {n - 1} neighbours: n_neighbors cannot be {n_neighbors}.")
    if not np.isfinite(x).all():
        raise InputError("Features must be finite to find neighbours among them.")
    if n <= exact_up_to:
        search = NearestNeighbors(n_neighbors=n_neighbors).fit(x)
        return np.asarray(search.kneighbors(return_distance=False), dtype=np.int64)
    # Centred, since float32 keeps small differences of small numbers only.
    return _inverted_file(np.asarray(x - x.mean(axis=0), dtype=np.float32), n_neighbors, random_state)


def _inverted_file(x: NDArray[np.float32], k: int, seed: int) -> NDArray[np.int64]:
    lists = _lists(x, np.random.default_rng(seed))
    centroids = np.stack([x[cells].mean(axis=0) for cells in lists])
    order = np.concatenate(lists)
    start = np.concatenate([[0], np.cumsum([len(cells) for cells in lists])])
    x = x[order]  # each list a contiguous block
    norms = np.einsum("nc,nc->n", x, x)
    centroid_norms = np.einsum("lc,lc->l", centroids, centroids)
    found = np.full((len(x), k), -1, dtype=np.int32)
    sizes = np.diff(start)
    candidates = max(_CANDIDATES, k + 1)

    def search(own: int) -> None:
        rows = slice(start[own], start[own + 1])
        distance = centroid_norms - 2 * (centroids @ centroids[own])
        distance[own] = -np.inf  # the own list first, so that the others find a narrow bound
        nearest = np.full((rows.stop - rows.start, k), np.inf, dtype=np.float32)
        by_distance = np.argsort(distance, kind="stable")
        enough = int(np.searchsorted(np.cumsum(sizes[by_distance]), candidates)) + 1
        for probe in by_distance[:enough]:
            columns = slice(start[probe], start[probe + 1])
            _keep_nearest(x[rows] @ x[columns].T, norms[columns], rows.start, columns.start, nearest, found[rows])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(search, range(len(lists))))
    restored = np.empty((len(x), k), dtype=np.int64)
    restored[order] = order[found]
    return restored


def _lists(x: NDArray[np.float32], rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Groups of similar cells: k-means of a sample, and what is too large for one list halved."""
    n_lists = max(len(x) // _LIST_SIZE, 1)
    sample = x[np.sort(rng.choice(len(x), min(len(x), _SAMPLE_PER_LIST * n_lists), replace=False))]
    centroids = sample[rng.choice(len(sample), n_lists, replace=False)]
    for _ in range(_LLOYD_STEPS):
        label = _nearest(sample, centroids)
        members = sp.csr_matrix((np.ones_like(label, dtype=np.float32), (label, np.arange(len(label)))))
        counts = np.bincount(label, minlength=n_lists)
        used = np.flatnonzero(counts)
        centroids[used] = (members @ sample)[used] / counts[used, None]
    label = _nearest(x, centroids)
    bounds = np.cumsum(np.bincount(label, minlength=n_lists))[:-1]
    groups = np.split(np.argsort(label, kind="stable"), bounds)
    return [part for cells in groups if len(cells) for part in _halve(cells, x)]


def _halve(cells: NDArray[np.intp], x: NDArray[np.float32]) -> list[NDArray[np.intp]]:
    if len(cells) <= _LARGEST_LIST:
        return [cells]
    features = x[cells]
    widest = features[:, features.var(axis=0).argmax()]
    # From its largest magnitude on, since the sign of a principal axis is arbitrary.
    along = np.argsort(widest * np.sign(widest[np.abs(widest).argmax()]), kind="stable")
    return [part for half in np.array_split(cells[along], 2) for part in _halve(half, x)]


def _nearest(x: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.intp]:
    norms = np.einsum("lc,lc->l", centroids, centroids)
    label = np.empty(len(x), dtype=np.intp)
    for first, last in pairwise([*range(0, len(x), 4096), len(x)]):
        distance = x[first:last] @ centroids.T
        distance *= -2
        distance += norms
        label[first:last] = distance.argmin(axis=1)
    return label


@compiled
def _keep_nearest(product, norms, first_row, first_column, nearest, found):  # type: ignore[no-untyped-def]
    """Insert the columns into the sorted shortlists of the rows."""
    k = nearest.shape[1]
    for row in range(product.shape[0]):
        bound = nearest[row, k - 1]
        for column in range(product.shape[1]):
            # The square of the distance, less the square of the row's own norm
            distance = norms[column] - np.float32(2) * product[row, column]
            if distance < bound and first_column + column != first_row + row:
                place = k - 1
                while place > 0 and nearest[row, place - 1] > distance:
                    nearest[row, place] = nearest[row, place - 1]
                    found[row, place] = found[row, place - 1]
                    place -= 1
                nearest[row, place] = distance
                found[row, place] = first_column + column
                bound = nearest[row, k - 1]
