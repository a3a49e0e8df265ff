"""One slice to one file, its cells in the order of their parts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.data.arrays import Arrays, Digest, write_arrays
from stgraph.data.shards import SHARD_VERSION, is_symmetric, part_crc, small_crc
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.space_filling import hilbert_order


@dataclass(frozen=True)
class ShardContent:
    """What goes into a shard; cells in any order.

    Attributes
    ----------
    graph
        The slice.
    membership
        (N,) part of each cell, 0 to P - 1, none empty.
    counts
        (N, G) CSR of counts, columns numbered as in the corpus vocabulary.
    measured
        (M,) the columns the slice has measured, in increasing order.
    row
        (N,) row of each cell in the file it came from.
    names
        N names of the cells.
    labels
        (N, L) codes of the label columns, -1 where there is none.
    categories
        For each label column, what the codes stand for.
    source
        What else to keep: name and hash of the file, ...
    """

    graph: SliceGraph
    membership: NDArray[np.integer]
    counts: sp.csr_matrix
    measured: NDArray[np.integer]
    row: NDArray[np.int64]
    names: Sequence[str]
    labels: NDArray[np.integer]
    categories: Mapping[str, Sequence[str]]
    source: Mapping[str, Any]


def write_shard(path: str | os.PathLike[str], content: ShardContent) -> Digest:
    """Write one slice, its cells re-ordered.

    Parts follow a Hilbert curve through their centres, so that those that touch are mostly
    near in the file, and so do the cells of a part.

    Parameters
    ----------
    path
        The file; it appears whole or not at all.
    content
        The slice.

    Returns
    -------
    Digest
        Size and hash, the same for the same content.
    """
    graph, membership = content.graph, np.asarray(content.membership, dtype=np.int64)
    order, ptr = _part_order(graph.pos, membership)
    near = _reordered(graph.near, order)
    arrays: Arrays = {
        "x": np.ascontiguousarray(graph.x[order], dtype=np.float32),
        "pos": np.ascontiguousarray(graph.pos[order], dtype=np.float64),
        "row": np.asarray(content.row, dtype=np.int64)[order],
        "label": np.asarray(content.labels, dtype=np.int32).reshape(len(graph), -1)[order],
        "near.indptr": near.indptr,
        "near.index": near.indices,
        "near.length": near.data,
        "measured": np.asarray(content.measured, dtype=np.uint32),
        "part.ptr": ptr,
    }
    arrays |= _counts(content.counts, order) | _names(content.names, order)
    level, number = graph.virtual, 0
    while level is not None:
        member = level.membership[order] if number == 0 else level.membership
        arrays |= {
            f"virtual.{number}.membership": np.asarray(member, dtype=np.int64),
            f"virtual.{number}.x": np.asarray(level.x, dtype=np.float32),
            f"virtual.{number}.pos": np.asarray(level.pos, dtype=np.float64),
            f"virtual.{number}.num_cells": np.asarray(level.num_cells, dtype=np.int64),
        }
        level, number = level.parent, number + 1
    arrays["part.crc"] = np.array([part_crc(arrays, *ptr[p : p + 2]) for p in range(len(ptr) - 1)], dtype=np.uint32)
    metadata = {
        "shard_version": SHARD_VERSION,
        "slice_id": graph.slice_id,
        "unit": graph.unit,
        "spacing": float(graph.spacing),
        "origin": [float(value) for value in graph.centre],
        "levels": number,
        "symmetric": is_symmetric(near),
        "categories": [[name, list(values)] for name, values in content.categories.items()],
        "source": dict(content.source),
        "small_crc": small_crc(arrays),
    }
    return write_arrays(path, arrays, metadata)


def _part_order(pos: NDArray[np.float64], membership: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    size = np.bincount(membership)
    centre = np.stack([np.bincount(membership, weights=pos[:, axis]) for axis in (0, 1)], axis=1) / size[:, None]
    rank = np.empty(len(size), dtype=np.int64)
    rank[hilbert_order(centre)] = np.arange(len(size))
    along = hilbert_order(pos)
    order = along[np.argsort(rank[membership[along]], kind="stable")]
    ptr = np.zeros(len(size) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rank[membership]), out=ptr[1:])
    return order, ptr


def _reordered(near: sp.csr_matrix, order: NDArray[np.int64]) -> sp.csr_matrix:
    n, nnz = near.shape[0], len(near.indices)
    index = np.int32 if max(n, nnz) <= np.iinfo(np.int32).max else np.int64
    place = np.empty(n, dtype=index)
    place[order] = np.arange(n, dtype=index)
    rows = near[order]  # keeps explicit zeros, which are edges
    moved = sp.csr_matrix((n, n), dtype=np.float64)
    moved.indptr, moved.indices = rows.indptr.astype(index), place[rows.indices]
    moved.data = np.array(rows.data, dtype=np.float64)
    moved.has_sorted_indices = False
    moved.sort_indices()
    return moved


def _counts(counts: sp.csr_matrix, order: NDArray[np.int64]) -> Arrays:
    rows = sp.csr_matrix(counts)[order]
    rows.sort_indices()
    value, gene = rows.data, rows.indices
    return {
        "count.indptr": rows.indptr.astype(np.int64),
        "count.gene": gene.astype(_least(gene)),
        "count.value": value.astype(_least(value)),
    }


def _least(values: NDArray[Any]) -> type[np.unsignedinteger[Any]]:
    return np.uint32 if len(values) and values.max() > np.iinfo(np.uint16).max else np.uint16


def _names(names: Sequence[str], order: NDArray[np.int64]) -> Arrays:
    encoded = [names[cell].encode("utf-8", "surrogateescape") for cell in order.tolist()]
    indptr = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in encoded], out=indptr[1:])
    return {"name.indptr": indptr, "name.text": np.frombuffer(b"".join(encoded), dtype=np.uint8)}
