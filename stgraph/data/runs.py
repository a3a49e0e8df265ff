"""Runs of successive numbers, for pieces of arrays that lie end to end."""

import numpy as np
from numpy.typing import NDArray


def runs(start: NDArray[np.integer], length: NDArray[np.integer]) -> NDArray[np.int64]:
    """``start[i], start[i] + 1, ...`` for ``length[i]`` numbers, one i after another.

    Parameters
    ----------
    start, length
        (n,) first number of each run, and how many there are.

    Returns
    -------
    ndarray
        All of them, int64.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.data.runs import runs
    >>> runs(np.array([7, 0, 3]), np.array([2, 0, 3])).tolist()
    [7, 8, 3, 4, 5]
    """
    numbers: NDArray[np.int64] = np.arange(int(length.sum()), dtype=np.int64)
    numbers += np.repeat(np.asarray(start, dtype=np.int64) - (np.cumsum(length) - length), length)
    return numbers
