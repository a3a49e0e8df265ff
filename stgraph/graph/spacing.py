"""How far apart the cells of a slice lie, and whether that can be microns."""

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph.errors import InputError, StgraphWarning

LEAST_UM, LARGEST_UM = 1.0, 200.0
"""Mean distances to the nearest neighbour between which a slice can be in microns."""


def nearest_distances(pos: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from each place to the nearest other place.

    Parameters
    ----------
    pos
        (N, 2) positions, not all the same. Coincident cells are one place.

    Returns
    -------
    ndarray
        (number of places,) in the unit of ``pos``.

    Raises
    ------
    InputError
        If all cells lie at one point, or so close that distances are no more than zero.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.spacing import nearest_distances
    >>> nearest_distances(np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]]))
    array([3., 3.])
    """
    distance = _second_nearest(pos)
    if (distance == 0).any():
        places = np.unique(pos, axis=0)
        if len(places) < 2:
            raise InputError("All cells lie at one point, so no spacing can be found.")
        distance = _second_nearest(places)
        if (distance == 0).any():
            raise InputError(
                f"The coordinates differ by so little (by {np.ptp(pos, axis=0).max():g} at most) that distances "
                "between cells vanish: give them in another unit."
            )
    return distance


def median_spacing(pos: NDArray[np.float64]) -> float:
    """Median distance of a cell to its nearest neighbour that lies elsewhere.

    Parameters
    ----------
    pos
        (N, 2) positions, not all the same.

    Returns
    -------
    float
        In the unit of ``pos``.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.spacing import median_spacing
    >>> median_spacing(np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]]))
    3.0
    """
    return float(np.median(nearest_distances(pos)))


def warn_of_unit(nearest: NDArray[np.float64], slice_id: str) -> None:
    """Say aloud that a slice can hardly be in microns.

    Parameters
    ----------
    nearest
        From `nearest_distances`, in what is said to be microns.
    slice_id
        Name of the slice, for the message.

    Warns
    -----
    StgraphWarning
        If the mean distance to the nearest neighbour lies outside 1 to 200 microns.
    """
    mean, median = float(nearest.mean()), float(np.median(nearest))
    if not LEAST_UM <= mean <= LARGEST_UM:
        warnings.warn(
            f"{slice_id}: the mean distance to the nearest neighbour is {mean:.3g} microns (the median {median:.3g}), "
            f"outside {LEAST_UM:g} to {LARGEST_UM:g}; is the unit right (--um-per-unit)?",
            StgraphWarning,
            stacklevel=3,
        )


def _second_nearest(pos: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(pos) < 2:
        raise InputError("All cells lie at one point, so no spacing can be found.")
    tree = cKDTree(pos)
    # In the order of the tree, for neighbours in space are then neighbours in memory: twice as fast at a million cells.
    nearest: NDArray[np.float64] = tree.query(pos[tree.indices], k=2, workers=-1)[0][:, 1]
    return nearest
