"""What runs the points of a sweep: processes of this machine, or whatever a person names."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate

from stgraph.data.jobs import processes
from stgraph.errors import InputError


@contextmanager
def executor_of(config: Mapping[str, Any] | None, workers: int) -> Iterator[Executor | None]:
    """The executor that settings name.

    Parameters
    ----------
    config
        ``_target_`` is the import path of a class or function that gives a
        `concurrent.futures.Executor`, such as that of a cluster; the rest are its arguments. None for
        processes here.
    workers
        Their number.

    Yields
    ------
    Executor or None
        None for the calling thread.

    Raises
    ------
    InputError
        If it cannot be made, is no executor, or both are given.

    Examples
    --------
    >>> from stgraph.cli.executor import executor_of
    >>> with executor_of({"_target_": "concurrent.futures.ThreadPoolExecutor", "max_workers": 2}, 1) as executor:
    ...     executor.submit(sum, [1, 2]).result()
    3
    """
    if config is None:
        with processes(workers) as pool:
            yield pool
        return
    if workers != 1:
        raise InputError("executor= says what runs the points, and so does --workers: give one of them.")
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise InputError(f"executor takes {{_target_: import.path, ...}}, not {config!r}.")
    try:
        executor: Executor = instantiate(dict(config))
    except (HydraException, ImportError, TypeError, ValueError) as error:
        raise InputError(
            f"executor: '{config['_target_']}' cannot be made ({' '.join(str(error).split())})."
        ) from error
    if not hasattr(executor, "submit") or not hasattr(executor, "shutdown"):
        raise InputError(f"executor: '{config['_target_']}' gives no concurrent.futures.Executor, but {executor!r}.")
    wait = True
    try:
        yield executor
    except BaseException:
        wait = False
        raise
    finally:
        executor.shutdown(wait=wait)
