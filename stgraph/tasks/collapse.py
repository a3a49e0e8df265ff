"""Whether features still tell cells apart."""

import warnings

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import StgraphWarning

_COLLAPSED = 1e-6
"""Share of the squared length of features in their differences below which they say next to nothing.

What all cells have in common harms nothing that centres first, as heads and clusterings do, so a large mean is no
collapse by itself: differences of a hundredth of the length are read well. Those of less than a thousandth are near
what arithmetic of mixed precision rounds off.
"""


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


def warn_of_collapse(x: NDArray[np.floating], what: str, *, joint: bool = False) -> None:
    """Say so if features of many cells have become alike: a loss can be small because nothing is left to tell.

    Parameters
    ----------
    x
        (N, C) features of the cells of one slice.
    what
        Whose features they are, for the message.
    joint
        Whether encoder and graph model were trained together, where features that stay as they are would help.

    Warns
    -----
    StgraphWarning
        If cells can hardly be told apart by them.
    """
    target = "target=cached for the joint stage, " if joint else ""
    if len(x) > 1 and (share := told_apart(x)) < _COLLAPSED:
        warnings.warn(
            f"{what} are alike for all cells (only {share:.1e} of their square differs from cell to cell): training "
            f"has collapsed, or has hardly begun. Try {target}a smaller lr, or more steps.",
            StgraphWarning,
            stacklevel=3,
        )
