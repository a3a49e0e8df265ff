"""Whether features still tell cells apart."""

import warnings

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import StgraphWarning

_COLLAPSED = 1e-3
"""Share of the squared length of features in their differences below which they say next to nothing."""


def told_apart(x: NDArray[np.floating]) -> float:
    """Share of the squared length of features that lies in what sets them apart: 0 if all are alike, 1 if centred.

    Parameters
    ----------
    x
        (N, C) features.

    Returns
    -------
    float
        From 0 to 1; 0 for features that are all zero.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.collapse import told_apart
    >>> told_apart(np.ones((5, 3))), told_apart(np.array([[1.0], [-1.0]]))
    (0.0, 1.0)
    """
    values = np.asarray(x, dtype=np.float64)
    whole = float(np.mean(np.sum(values**2, axis=1)))
    apart = float(np.mean(np.sum((values - values.mean(axis=0)) ** 2, axis=1)))
    return apart / whole if whole > 0 else 0.0


def warn_of_collapse(x: NDArray[np.floating], what: str) -> None:
    """Say so if features of many cells have become alike: a loss can be small because nothing is left to tell.

    Parameters
    ----------
    x
        (N, C) features of the cells of one slice.
    what
        Whose features they are, for the message.

    Warns
    -----
    StgraphWarning
        If cells can hardly be told apart by them.
    """
    if len(x) > 1 and (share := told_apart(x)) < _COLLAPSED:
        warnings.warn(
            f"{what} are alike for all cells (only {share:.1e} of their square differs from cell to cell): training "
            "has collapsed, or has hardly begun. Try target=cached for a joint stage, a smaller lr, or more steps.",
            StgraphWarning,
            stacklevel=3,
        )
