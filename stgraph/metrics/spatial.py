"""How continuous labels are in space, without a truth."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from stgraph.errors import InputError
from stgraph.metrics.arguments import checked_codes, checked_matrix

_LEAST_CELLS = 3
"""Cells of the smallest cluster whose distances SDMBench counts."""


def chaos(labels: ArrayLike, pos: ArrayLike) -> float:
    """Mean distance of a cell to the nearest cell of its own cluster: low where clusters are continuous.

    As SDMBench computes it: each axis of the positions is centred and divided by its
    standard deviation over all cells given, the distances to the nearest cell of the
    same cluster are added up, and the sum is divided by the number N of all cells.
    Clusters of fewer than three cells add nothing to the sum, yet count in N. So the
    value has no unit, and depends on the number of cells: compare labels of one slice only.

    Low does not mean right: a single cluster has the lowest value there is.

    Parameters
    ----------
    labels
        (N,) integer codes of the clusters of one slice.
    pos
        (N, 2) positions, of any unit.

    Returns
    -------
    float
        NaN if no cluster has three cells.

    Raises
    ------
    InputError
        If the arrays do not fit together or a position is not finite.

    References
    ----------
    L. Shang and X. Zhou, "Spatially aware dimension reduction for spatial
    transcriptomics", Nature Communications 13, 2022. Z. Yuan et al., "Benchmarking spatial
    clustering methods with spatially resolved transcriptomics data" (SDMBench), Nature Methods 21, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.metrics.spatial import chaos
    >>> pos = np.stack(np.divmod(np.arange(36.0), 6), axis=1)
    >>> halves, stripes = (pos[:, 0] // 3).astype(int), (pos.sum(axis=1) % 2).astype(int)
    >>> round(chaos(halves, pos), 3), round(chaos(stripes, pos), 3)
    (0.586, 0.828)
    """
    places = checked_matrix("chaos", "pos", pos, shape=(None, 2)).astype(np.float64)
    codes = checked_codes("chaos", "labels", labels, n_cells=len(places))
    places = _standardised(places)
    order = np.argsort(codes, kind="stable")
    clusters = np.split(places[order], np.flatnonzero(np.diff(codes[order])) + 1)
    counted = [cluster for cluster in clusters if len(cluster) >= _LEAST_CELLS]
    if not counted:
        return float("nan")
    total = sum(KDTree(cluster).query(cluster, k=2)[0][:, 1].sum() for cluster in counted)
    return float(total / len(codes))


def pas(labels: ArrayLike, pos: ArrayLike, *, n_neighbors: int = 10) -> float:
    """Percentage of abnormal spots, as a share: cells that more than half of their neighbours differ from.

    Low where clusters are continuous. Low does not mean right: a single cluster has 0.

    Parameters
    ----------
    labels
        (N,) integer codes of the clusters of one slice.
    pos
        (N, 2) positions, of any unit.
    n_neighbors
        K, nearest other cells that are asked. With the 10 of the paper a cell is
        abnormal if at least six have another label. Of equally distant cells any may
        be taken.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    InputError
        If the arrays do not fit together, a position is not finite, or there are no
        more cells than ``n_neighbors``.

    References
    ----------
    As for `chaos`.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.metrics.spatial import pas
    >>> rng = np.random.default_rng(0)
    >>> pos = rng.uniform(size=(1000, 2))
    >>> halves = (pos[:, 0] > 0.5).astype(int)
    >>> pas(halves, pos) < 0.05, round(pas(rng.permutation(halves), pos), 1)
    (True, 0.4)
    """
    places = checked_matrix("pas", "pos", pos, shape=(None, 2)).astype(np.float64)
    codes = checked_codes("pas", "labels", labels, n_cells=len(places))
    if not 1 <= n_neighbors < len(codes):
        raise InputError(f"pas needs n_neighbors from 1 to {len(codes) - 1} for {len(codes)} cells, not {n_neighbors}.")
    near = _other_neighbors(places, n_neighbors)
    return float(((codes[near] != codes[:, None]).sum(axis=1) > n_neighbors / 2).mean())


def _standardised(places: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = places.std(axis=0)
    # An axis along which nothing varies is left as it is.
    flat = places.min(axis=0) == places.max(axis=0)
    return np.asarray((places - places.mean(axis=0)) / np.where(flat, 1.0, spread))


def _other_neighbors(places: NDArray[np.float64], n_neighbors: int) -> NDArray[np.int64]:
    """The nearest cells of each, without itself, which need not come first where several share its place."""
    near = KDTree(places).query(places, k=n_neighbors + 1)[1]
    itself = near == np.arange(len(places))[:, None]
    itself[~itself.any(axis=1), -1] = True
    return np.asarray(near[~itself].reshape(len(places), n_neighbors), dtype=np.int64)
