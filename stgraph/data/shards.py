"""One slice as one file: the cells of a part stand one after the other.

The arrays of a shard, in the letters of ``docs/notation.md``, with T stored counts, L
label columns and M measured genes; ``indptr`` as in CSR:

========================  ================  ===================================================
``x``                     (N, C) float32    features
``pos``                   (N, 2) float64    positions
``row``                   (N,) int64        rows of the cells in the file they came from
``label``                 (N, L) int32      codes of the label columns, -1 where there is none
``near.indptr, .index``   int32 (or int64)  edges, as numbers of cells in the order of the shard
``near.length``           (E,) float64      their lengths
``count.indptr``          (N + 1,) int64
``count.gene``            (T,) uint16       numbers in the corpus vocabulary (or uint32)
``count.value``           (T,) uint16       counts (or uint32, if one needs it)
``name.indptr, .text``    int64, uint8      names of the cells, UTF-8
``virtual.I.membership``  (N,) int64        virtual cell of each cell; for I > 0 of each of the
                                            virtual cells of the level below
``virtual.I.x`` ...       as `VirtualCells`
``measured``              (M,) uint32       genes of the panel of the slice
``part.ptr``              (P + 1,) int64    cells of part p: from ``ptr[p]`` to ``ptr[p + 1]``
``part.crc``              (P,) uint32       checksum of all that belongs to these cells
========================  ================  ===================================================

Everything else is checked as the shard is opened.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.data.arrays import Arrays, crc32, map_arrays
from stgraph.data.documents import fingerprint
from stgraph.errors import StoreError
from stgraph.graph.slice_graph import SliceGraph, VirtualCells

SHARD_VERSION = 1
"""Of the content of a shard; raised when old code could not read new ones."""

MEND = "delete it and run 'stgraph corpus build' with the same files again, which makes what is missing"

_INDEX = ("<i4", "<i8")
_SMALL = ("<u2", "<u4")
_EXPECTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "x": (("<f4",), ("N", "C")),
    "pos": (("<f8",), ("N", "2")),
    "row": (("<i8",), ("N",)),
    "label": (("<i4",), ("N", "L")),
    "near.indptr": (_INDEX, ("N+1",)),
    "near.index": (_INDEX, ("E",)),
    "near.length": (("<f8",), ("E",)),
    "count.indptr": (("<i8",), ("N+1",)),
    "count.gene": (_SMALL, ("T",)),
    "count.value": (_SMALL, ("T",)),
    "name.indptr": (("<i8",), ("N+1",)),
    "name.text": (("|u1",), ("B",)),
    "measured": (("<u4",), ("M",)),
    "part.ptr": (("<i8",), ("P+1",)),
    "part.crc": (("<u4",), ("P",)),
}
_RAGGED = (
    ("near.indptr", ("near.index", "near.length")),
    ("count.indptr", ("count.gene", "count.value")),
    ("name.indptr", ("name.text",)),
)
_MOST_LEVELS = 32


class Shard:
    """One slice of a corpus, mapped into memory.

    Opening reads the header and what belongs to no part. What belongs to a part is to be
    trusted only after `verify` was called with it.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    path
        The file.
    arrays
        By name, as the module tells; read-only.
    metadata
        What is known of the slice.

    Raises
    ------
    StoreError
        If the file is missing, truncated, damaged where opening looks, or of another
        version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.arrays, self.metadata = map_arrays(self.path)
        except StoreError as error:
            raise StoreError(f"{error} To mend it, {MEND}.") from error
        version = self.metadata.get("shard_version")
        if version != SHARD_VERSION:
            raise StoreError(
                f"'{self.path}' has shard version {version}, and this stgraph reads version {SHARD_VERSION}: "
                "use the stgraph that wrote it, or build the corpus again."
            )
        try:
            self._check_content(self._check_shapes())
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._damaged(f"what it holds does not fit together ({error})") from error

    def __len__(self) -> int:
        return len(self.arrays["row"])

    @property
    def slice_id(self) -> str:
        """Name of the slice."""
        return str(self.metadata["slice_id"])

    @property
    def categories(self) -> dict[str, list[str]]:
        """For each label column, in their order, what the codes stand for."""
        return dict(self.metadata["categories"])

    @property
    def seal(self) -> str:
        """Tells the shard from any other: a hash over its checksums, which are over all the rest."""
        return fingerprint(self.metadata)

    @property
    def num_parts(self) -> int:
        """P."""
        return len(self.arrays["part.crc"])

    def bounds(self, part: int) -> tuple[int, int]:
        """First cell of a part, and the one after its last."""
        first, last = self.arrays["part.ptr"][part : part + 2].tolist()
        return first, last

    def parts_of(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """The parts some cells belong to, each once."""
        part = np.searchsorted(self.arrays["part.ptr"], cells, side="right") - 1
        return np.flatnonzero(np.bincount(part, minlength=self.num_parts))

    def verify(self, part: int) -> None:
        """Read all that belongs to a part, and compare it to its checksum.

        Raises
        ------
        StoreError
            If a byte has changed, or what is there points out of the shard.
        """
        first, last = self.bounds(part)
        if part_crc(self.arrays, first, last) != int(self.arrays["part.crc"][part]):
            raise self._damaged(f"part {part} has changed since it was written")
        if not self._in_range(first, last):
            raise self._damaged(f"part {part} points to what is not there")

    @cached_property
    def graph(self) -> SliceGraph:
        """The slice on the mapped arrays, cells in the order of the shard."""
        a, n = self.arrays, len(self)
        near = sp.csr_matrix((n, n), dtype=np.float64)
        # Not by the constructor, which looks at all edges, and may copy them.
        near.indptr, near.indices, near.data = a["near.indptr"], a["near.index"], a["near.length"]
        near.has_sorted_indices = near.has_canonical_format = True
        virtual: VirtualCells | None = None
        for level in reversed(range(self.metadata["levels"])):
            fields = {name: a[f"virtual.{level}.{name}"] for name in ("membership", "x", "pos", "num_cells")}
            virtual = VirtualCells(**fields, parent=virtual)
        return SliceGraph(
            slice_id=self.slice_id,
            x=a["x"],
            pos=a["pos"],
            near=near,
            virtual=virtual,
            spacing=float(self.metadata["spacing"]),
            unit=str(self.metadata["unit"]),
            origin=np.array(self.metadata["origin"], dtype=np.float64),
        )

    @property
    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.unsignedinteger[Any]], NDArray[np.unsignedinteger[Any]]]:
        """CSR of the counts: (N + 1,) ``indptr``, (T,) genes, (T,) counts."""
        return self.arrays["count.indptr"], self.arrays["count.gene"], self.arrays["count.value"]

    def names(self, cells: Sequence[int] | NDArray[np.integer] | None = None) -> list[str]:
        """Names of some cells, or of all."""
        ptr, text = self.arrays["name.indptr"], self.arrays["name.text"]
        which = range(len(self)) if cells is None else cells
        return [text[ptr[cell] : ptr[cell + 1]].tobytes().decode("utf-8", "surrogateescape") for cell in which]

    def _check_shapes(self) -> dict[str, int]:
        """The sizes the letters stand for."""
        a, levels = self.arrays, self.metadata["levels"]
        if type(levels) is not int or not 0 <= levels <= _MOST_LEVELS:
            raise ValueError(f"{levels} levels of virtual cells")
        expected = dict(_EXPECTED)
        below = "N"
        for level in range(levels):
            v = f"V{level}"
            expected |= {
                f"virtual.{level}.membership": (("<i8",), (below,)),
                f"virtual.{level}.x": (("<f4",), (v, "C")),
                f"virtual.{level}.pos": (("<f8",), (v, "2")),
                f"virtual.{level}.num_cells": (("<i8",), (v,)),
            }
            below = v
        if set(expected) != set(a):
            raise ValueError(f"unlike arrays {sorted(set(expected) ^ set(a))}")
        size = {"2": 2}  # by letter
        for name, (dtypes, letters) in expected.items():
            if a[name].dtype.str not in dtypes or a[name].ndim != len(letters):
                raise ValueError(f"'{name}' is {a[name].dtype.str} {a[name].shape}")
            for letter, n in zip(letters, a[name].shape, strict=True):
                base, plus, _ = letter.partition("+")
                if size.setdefault(base, n - bool(plus)) != n - bool(plus):
                    raise ValueError(f"'{name}' has shape {a[name].shape}")
        if a["near.indptr"].dtype != a["near.index"].dtype:
            raise ValueError("edges of two types")
        return size

    def _check_content(self, size: dict[str, int]) -> None:
        a, meta = self.arrays, self.metadata
        if small_crc(a) != meta["small_crc"]:
            raise ValueError("a checksum")
        ptr = a["part.ptr"]
        if len(ptr) < 2 or ptr[0] != 0 or ptr[-1] != len(self) or (np.diff(ptr) <= 0).any():
            raise ValueError("parts that do not cover its cells")
        for pointer, (values, *_) in _RAGGED:
            if a[pointer][0] != 0 or a[pointer][-1] != len(a[values]):
                raise ValueError(f"'{pointer}' does not cover its values")
        if (a["measured"][1:] <= a["measured"][:-1]).any():
            raise ValueError("measured genes in no order")
        for level in range(1, meta["levels"]):
            member = a[f"virtual.{level}.membership"]
            if len(member) and not 0 <= member.min() <= member.max() < size[f"V{level}"]:
                raise ValueError("members of virtual cells that are not there")
        if len(self.categories) != size["L"] or len(meta["origin"]) != 2:
            raise ValueError("labels or origin")
        float(meta["spacing"])

    def _in_range(self, first: int, last: int) -> bool:
        a, n = self.arrays, len(self)
        for pointer, (values, *_) in _RAGGED:
            ptr = a[pointer][first : last + 1]
            if ptr[0] < 0 or ptr[-1] > len(a[values]) or (ptr[1:] < ptr[:-1]).any():
                return False
        near = a["near.index"][slice(*a["near.indptr"][[first, last]])]
        gene = a["count.gene"][slice(*a["count.indptr"][[first, last]])]
        inside = [(near, n), (gene, int(a["measured"][-1]) + 1 if len(a["measured"]) else 0)]
        labels = a["label"][first:last].T
        of = self.categories.values()
        if any(codes.min() < -1 or codes.max() >= len(texts) for codes, texts in zip(labels, of, strict=True)):
            return False
        if self.metadata["levels"]:
            inside.append((a["virtual.0.membership"][first:last], len(a["virtual.0.num_cells"])))
        return all(len(values) == 0 or (values.min() >= 0 and values.max() < end) for values, end in inside)

    def _damaged(self, how: str) -> StoreError:
        return StoreError(f"The shard '{self.path}' is damaged: {how}. To mend it, {MEND}.")


def is_symmetric(near: sp.csr_matrix) -> bool:
    """Whether each edge has its reverse, of the same length; indices sorted."""
    back = near.T.tocsr()
    return all(np.array_equal(getattr(near, part), getattr(back, part)) for part in ("indptr", "indices", "data"))


def _blocks(arrays: Arrays, first: int, last: int) -> Iterator[NDArray[Any]]:
    """All that belongs to the cells from ``first`` to ``last``."""
    for name in ("x", "pos", "row", "label", "virtual.0.membership"):
        if name in arrays:
            yield arrays[name][first:last]
    for pointer, values in _RAGGED:
        ptr = arrays[pointer][first : last + 1]
        yield ptr
        begin, end = max(int(ptr[0]), 0), max(int(ptr[-1]), 0)
        for name in values:
            yield arrays[name][begin:end]


def part_crc(arrays: Arrays, first: int, last: int) -> int:
    """Checksum of all that belongs to the cells from ``first`` to ``last``."""
    checksum = 0
    for block in _blocks(arrays, int(first), int(last)):
        checksum = crc32(block, checksum)
    return checksum


def small_crc(arrays: Arrays) -> int:
    """Checksum of what belongs to no part."""
    checksum = 0
    for name in sorted(arrays):
        if name in ("measured", "part.ptr", "part.crc") or (
            name.startswith("virtual.") and name != "virtual.0.membership"
        ):
            checksum = crc32(arrays[name], checksum)
    return checksum
