"""Files and folders that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stgraph.errors import InputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; move it to ``path`` if the block succeeds.

    A failure or a kill inside the block leaves what stood at ``path`` untouched.

    Parameters
    ----------
    path
        The final file. Its folder is created if needed.

    Yields
    ------
    Path
        A path of the same suffix in the same folder, to be written by the caller.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}", dir=path.parent)
    os.close(fd)
    tmp = Path(name)
    try:
        yield tmp
        # mkstemp, and safetensors, make files private; what we publish follows the user's umask.
        tmp.chmod(0o666 & ~_umask())
        with tmp.open("rb+") as handle:
            os.fsync(handle.fileno())
        tmp.replace(path)
    finally:
        tmp.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; move it to ``path`` if the block succeeds.

    Parameters
    ----------
    path
        The final folder. It must not exist, or be empty, unless ``overwrite``.
    overwrite
        Replace an existing folder, once the new one is complete.

    Yields
    ------
    Path
        A folder in the same parent, to be filled by the caller.

    Raises
    ------
    InputError
        If ``path`` is a file, or a folder with content and ``overwrite`` is false.
    """
    check_out_dir(Path(path), overwrite=overwrite)
    # Resolved, for "run/.." leads nowhere once "run" is moved away, and a link is not to be replaced.
    path = Path(path).resolve()
    new_parents = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        tmp.chmod(0o777 & ~_umask())
        yield tmp
        _replace_dir(tmp, path)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
        with suppress(OSError):  # one that is not empty stays
            for parent in new_parents:
                parent.rmdir()


def check_out_dir(path: Path, *, overwrite: bool) -> None:
    """Raise `InputError` now rather than after an hour of training."""
    if path.exists() and not path.is_dir():
        raise InputError(f"'{path}' is a file, but the output is a folder: choose another --out.")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InputError(f"The output folder '{path}' already has content: choose another --out or pass --overwrite.")
    if path.is_dir() and Path.cwd().is_relative_to(path.resolve()):
        raise InputError(f"'{path}' is or holds the folder you are in, and cannot be replaced: choose another --out.")
    _check_parent(path)


def check_out_file(path: Path, *, overwrite: bool) -> None:
    """Raise `InputError` now rather than after the work."""
    if path.is_dir():
        raise InputError(f"'{path}' is a folder, but the output is a file: choose another --out.")
    if path.exists() and not overwrite:
        raise InputError(f"'{path}' already exists: choose another --out or pass --overwrite.")
    _check_parent(path)


def _check_parent(path: Path) -> None:
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"'{path}' cannot be made, for '{parent}' is not a folder you may write to.")


def _replace_dir(new: Path, path: Path) -> None:
    """Move ``new`` to ``path``; if that fails, what stood there is put back."""
    if not path.exists():
        new.replace(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    try:
        path.replace(old)
        new.replace(path)
    except BaseException:
        if path.exists():
            old.rmdir()
        else:
            old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
