"""One writer of a folder at a time."""

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from stgraph.errors import InputError

LOCK = ".lock"

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    It is a record lock of the operating system: it goes with the process that holds it,
    however that ends, so there are no stale ones. Forked workers do not inherit it. It
    tells processes apart, not the threads of one.

    Parameters
    ----------
    folder
        Must exist.

    Raises
    ------
    InputError
        If another process holds it.
    """
    if sys.platform == "win32":  # no such locks: two writers are not told apart, but harmless
        yield
        return
    path = folder / LOCK
    handle = _acquire(path)
    try:
        handle.seek(0)
        handle.truncate()
        json.dump({"pid": os.getpid(), "host": platform.node()}, handle)
        handle.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        handle.close()


def _acquire(path: Path) -> IO[Any]:
    while True:
        handle = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have removed the file we opened.
            if _same(path, handle):
                return handle
        except (BlockingIOError, PermissionError):
            raise InputError(
                f"'{path.parent}' is being written by another process{_holder(handle)}: wait until it ends."
            ) from None
        handle.close()


def _same(path: Path, handle: IO[Any]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False


def _holder(handle: IO[Any]) -> str:
    with suppress(ValueError, KeyError, TypeError), handle:
        handle.seek(0)
        owner = json.load(handle)
        return f" (number {owner['pid']} on {owner['host']})"
    return ""
