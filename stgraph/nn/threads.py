"""Compiled loops in as many threads as torch has, that end with the call."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_LEAST_WORK = 500_000
"""Products for which a thread is worth its start."""


def in_threads(kernel: Callable[..., None], ptr: NDArray[np.int64], width: int, *args: Any) -> None:
    """Call ``kernel(start, stop, *args)`` for ranges of rows that hold about as many items.

    Parameters
    ----------
    kernel
        Releases the GIL, and writes only what belongs to its rows.
    ptr
        (rows + 1,) where the items of each row begin.
    width
        Products for each item, which tells how many threads are worth their start: at most as many as torch has
        (``torch.set_num_threads``) and as there are cores.
    *args
        Passed on.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.nn.threads import in_threads
    >>> in_threads(lambda start, stop, name: print(name, start, stop), np.array([0, 2, 3]), 8, "rows")
    rows 0 2
    """
    rows, work = len(ptr) - 1, int(ptr[-1]) * width
    workers = min(torch.get_num_threads(), os.cpu_count() or 1, -(-work // _LEAST_WORK))
    if workers <= 1:
        kernel(0, rows, *args)
        return
    # More ranges than threads, for a range may fall to a processor that is busy. Rows count like an item each.
    load = ptr + np.arange(rows + 1)
    bounds = np.searchsorted(load, np.linspace(0, load[-1], 4 * workers + 1)).clip(0, rows)
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(kernel, int(a), int(b), *args) for a, b in pairwise(bounds) if b > a]:
            done.result()
