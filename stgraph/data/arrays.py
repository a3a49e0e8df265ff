"""Named arrays in one file that is mapped, not loaded, and that shows any changed byte.

The file is safetensors, so that others can read it. What we add: its bytes depend on the
content alone, every array is aligned to its items, and the header carries its own
checksum. What is read is believed only after its sizes have been checked against the
file, in bounded memory.
"""

import hashlib
import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stgraph._files import atomic_path
from stgraph.errors import StoreError

_DTYPES = {
    "F64": "<f8",
    "I64": "<i8",
    "F32": "<f4",
    "I32": "<i4",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LENGTH = struct.Struct("<Q")
_START = b'{"__metadata__":{"header_crc32":"'
_BLANK = b"0" * 8
_ALIGN = 64
_LARGEST_HEADER = 16 << 20
"""Bytes of the largest header believed in; ours have a few thousand."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Digest:
    """What a file was when it was written.

    Attributes
    ----------
    bytes
        Its size.
    sha256
        Its hash, in hexadecimal.
    """

    bytes: int
    sha256: str


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]
) -> Digest:
    """Write arrays to a file that appears whole or not at all.

    Parameters
    ----------
    path
        A ``.safetensors`` file; one that is there is replaced once the new one is complete.
    arrays
        Of the types of `_DTYPES`. Nothing is copied.
    metadata
        What JSON can hold.

    Returns
    -------
    Digest
        Size and hash of the file, equal for equal content.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from stgraph.data.arrays import map_arrays, write_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     digest = write_arrays(f"{folder}/a.safetensors", {"x": np.arange(3)}, {"of": "me"})
    ...     arrays, metadata = map_arrays(f"{folder}/a.safetensors")
    ...     arrays["x"].tolist(), metadata
    ([0, 1, 2], {'of': 'me'})
    """
    # Larger items first: with no gaps, which safetensors forbids, every array is aligned.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
    header: dict[str, Any] = {"__metadata__": {"header_crc32": _BLANK.decode(), "stgraph": text}}
    end = 0
    for name, array in ordered:
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("<").str],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-(_LENGTH.size + len(raw)) % _ALIGN)
    checksum = b"%08x" % zlib.crc32(raw)
    raw = raw[: len(_START)] + checksum + raw[len(_START) + len(checksum) :]
    sha256 = hashlib.sha256()
    with atomic_path(path) as tmp, tmp.open("wb") as handle:
        for block in (_LENGTH.pack(len(raw)) + raw, *(_bytes(array) for _, array in ordered)):
            sha256.update(block)
            handle.write(block)
    return Digest(_LENGTH.size + len(raw) + end, sha256.hexdigest())


def map_arrays(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, Any]]:
    """Map the arrays of a file into memory, read-only; none of them is read.

    Parameters
    ----------
    path
        A file that `write_arrays` wrote.

    Returns
    -------
    arrays : dict
        By name. The file stays mapped as long as one of them lives.
    metadata : dict
        What was written with them.

    Raises
    ------
    StoreError
        If the file is missing, truncated, foreign, or its header damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            begin, raw = _read_header(handle, size, path)
            entries, metadata = _parse(raw, path)
            _check_layout(entries, size - begin, path)
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise StoreError(f"'{path}' cannot be read ({error.strerror or error}).") from error
    arrays: Arrays = {}
    for name, dtype, shape, first in entries:
        flat = np.frombuffer(mapped, dtype=dtype, count=math.prod(shape), offset=begin + first)
        arrays[name] = flat.reshape(shape)
    return arrays, metadata


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hash of a file, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def crc32(array: NDArray[Any], start: int = 0) -> int:
    """Checksum of the items of a contiguous array, going on from ``start``."""
    return zlib.crc32(_bytes(array), start)


_Entry = tuple[str, np.dtype[Any], tuple[int, ...], int]


def _bytes(array: NDArray[Any]) -> memoryview | bytes:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data if little.size else b""


def _read_header(handle: Any, size: int, path: Path) -> tuple[int, bytes]:
    start = handle.read(_LENGTH.size)
    length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else 0
    if not len(_START) < length <= _LARGEST_HEADER:
        raise StoreError(f"'{path}' is no file of ours or damaged at its beginning.")
    if length > size - _LENGTH.size:
        raise StoreError(f"'{path}' has {size} bytes, fewer than its header alone: it is truncated.")
    raw = handle.read(length)
    at = slice(len(_START), len(_START) + len(_BLANK))
    blank = raw[: at.start] + _BLANK + raw[at.stop :]
    if not raw.startswith(_START) or raw[at] != b"%08x" % zlib.crc32(blank):
        raise StoreError(f"'{path}' is no file of ours or its header is damaged.")
    return _LENGTH.size + length, raw


def _parse(raw: bytes, path: Path) -> tuple[list[_Entry], dict[str, Any]]:
    try:
        header = json.loads(raw)
        metadata = json.loads(header.pop("__metadata__")["stgraph"])
        entries = [
            (name, np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"]), *entry["data_offsets"])
            for name, entry in header.items()
        ]
        entries.sort(key=lambda entry: entry[3:])
        end = 0
        for _, dtype, shape, first, last in entries:
            whole = all(type(number) is int and number >= 0 for number in (*shape, first, last))
            if len(shape) > 2 or not whole or first != end or last - first != math.prod(shape) * dtype.itemsize:
                raise ValueError("its arrays do not follow one another")
            end = last
        if not isinstance(metadata, dict):
            raise ValueError("its metadata are no mapping")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StoreError(f"'{path}' has a header that cannot be used ({error}).") from error
    return [(name, dtype, shape, first) for name, dtype, shape, first, _ in entries], metadata


def _check_layout(entries: list[_Entry], available: int, path: Path) -> None:
    needed = sum(math.prod(shape) * dtype.itemsize for _, dtype, shape, _ in entries)
    if needed != available:
        lost = "it is truncated" if available < needed else "something was added to it"
        raise StoreError(f"'{path}' has {available} bytes of arrays, not the {needed} its header tells: {lost}.")
