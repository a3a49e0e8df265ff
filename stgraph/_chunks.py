"""A kernel over the rows of a slice, in as many threads as there are cores.

Numba's own parallel loops start threads that outlive the call: a process that forks
afterwards (workers of a loader, of an executor) may hang or be killed. These do not.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any


def in_chunks(kernel: Callable[..., Any], num_rows: int, *args: Any, least: int = 20_000) -> None:
    """Call ``kernel(start, stop, *args)`` for ranges that cover all rows.

    Parameters
    ----------
    kernel
        Releases the GIL, and writes only what belongs to its rows.
    num_rows
        Number of rows.
    *args
        Passed on.
    least
        Rows for which a thread is worth its start.

    Examples
    --------
    >>> from stgraph._chunks import in_chunks
    >>> in_chunks(lambda start, stop, name: print(name, start, stop), 3, "rows")
    rows 0 3
    """
    workers = min(os.cpu_count() or 1, -(-num_rows // least))
    if workers <= 1:
        kernel(0, num_rows, *args)
        return
    # More ranges than threads, for rows are not equally long.
    bounds = [num_rows * i // (4 * workers) for i in range(4 * workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(kernel, *span, *args) for span in pairwise(bounds)]:
            done.result()
