"""Loops compiled by Numba, and kept on disk where that can be written to."""

from collections.abc import Callable, Set
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any], *, fastmath: Set[str] = frozenset()) -> Any:
    """Compile a loop over arrays when it is first called; it holds no GIL.

    Parameters
    ----------
    function
        Of arrays and numbers.
    fastmath
        Liberties that LLVM may take with floats, by its names; none by default.

    Returns
    -------
    callable
        What Numba makes of it. It is compiled once for all processes; anew in each where neither the folder
        of its module nor a cache folder of the user can be written to, as in images of containers. Numba
        alone would refuse to import there. (``NUMBA_CACHE_DIR`` names another folder.)

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph._compiled import compiled
    >>> @compiled
    ... def total(values):
    ...     found = 0.0
    ...     for value in values:
    ...         found += value
    ...     return found
    >>> total(np.ones(3))
    3.0
    """
    try:
        return njit(cache=True, nogil=True, fastmath=set(fastmath))(function)
    except RuntimeError:  # no place for a cache
        return njit(nogil=True, fastmath=set(fastmath))(function)
