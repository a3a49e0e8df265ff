"""Many jobs, through whatever runs them."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

import numba
from threadpoolctl import threadpool_limits

from stgraph.errors import InputError

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and how much there is."""

_T = TypeVar("_T")
_R = TypeVar("_R")


def each_done(
    executor: Executor | None, function: Callable[[_T], _R], jobs: Sequence[_T]
) -> Iterator[tuple[_T, _R | Exception]]:
    """Each job with what came of it, as they are done.

    Parameters
    ----------
    executor
        What runs them; the calling thread without.
    function
        Does one job. A process can be sent it, and what it returns.
    jobs
        What it is called with.

    Yields
    ------
    job
        One of ``jobs``.
    result or Exception
        What came of it. What ends the program, such as Control-C, is raised, and jobs that
        have not begun are called off.

    Raises
    ------
    InputError
        If a worker was killed, for then the executor is of no more use.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from stgraph.data.jobs import each_done
    >>> with ThreadPoolExecutor() as pool:
    ...     sorted(each_done(pool, abs, [-1, 2]))
    [(-1, 1), (2, 2)]
    """
    if executor is None:
        for job in jobs:
            try:
                yield job, function(job)
            except Exception as error:
                yield job, error
        return
    futures: dict[Future[_R], _T] = {}
    try:
        for job in jobs:
            futures[executor.submit(function, job)] = job
        for future in as_completed(futures):
            failure = future.exception()
            if failure is not None and not isinstance(failure, Exception):
                raise failure
            if isinstance(failure, BrokenExecutor):
                raise failure
            yield futures[future], future.result() if failure is None else failure
    except BrokenExecutor as error:
        raise InputError("A worker was killed, perhaps for lack of memory: run again with fewer workers.") from error
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def processes(number: int) -> Iterator[Executor | None]:
    """Processes to build a corpus with, which end when this one does, however it ends.

    They are not forked from this process, whose threads could hold a lock forever.

    Parameters
    ----------
    number
        How many; with one, the calling thread does the work.

    Yields
    ------
    Executor or None
        None for one process.
    """
    if number == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload(["stgraph.data.making"])
    executor = ProcessPoolExecutor(number, mp_context=context, initializer=_begin)
    before = set(multiprocessing.active_children())
    try:
        yield executor
    except BaseException:
        # What they write is whole or not there, so there is nothing to wait for.
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _begin() -> None:
    """In a new worker: Control-C is the parent's affair, and nobody works for a parent that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threadpool_limits(1)
    numba.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
