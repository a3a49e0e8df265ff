"""Gathering neighbourhoods from ragged arrays, in numba."""

import numpy as np

from stgraph._compiled import compiled


@compiled
def neighborhood_lengths(start, stop, index, of_cell, lengths):  # type: ignore[no-untyped-def]
    """``lengths`` of the rows from ``start`` to ``stop``: the tokens of all cells of each neighbourhood."""
    for row in range(start, stop):
        total = 0
        for cell in index[row]:
            if cell >= 0:
                total += of_cell[cell]
        lengths[row] = total


@compiled
def number_distinct(cells, place, rows, distinct):  # type: ignore[no-untyped-def]
    """Number the cells of a table in the order they first occur.

    ``cells`` are those asked for, -1 for none; ``place`` has a zero for each cell there is; ``rows`` becomes
    their numbers, ``distinct`` the cell of each number. Gives how many there are.
    """
    size = 0
    for s in range(cells.shape[0]):
        for slot in range(cells.shape[1]):
            cell = cells[s, slot]
            if cell < 0:
                rows[s, slot] = -1
                continue
            if place[cell] == 0:
                distinct[size] = cell
                size += 1
                place[cell] = size
            rows[s, slot] = place[cell] - 1
    return size


@compiled
def gather_cells(rows, cells, first, indptr, tokens, counts, offsets, out_tokens, out_counts):  # type: ignore[no-untyped-def]
    """Copy the tokens of ``cells[v]`` (less ``first``) of one slice to where ``offsets[v]`` says, for v in ``rows``.

    Numbers without sign, for which Numba does not look whether an index counts from the end: six times as fast.
    """
    for v in rows:
        cell = cells[v] - first
        begin, write = np.uint64(indptr[cell]), np.uint64(offsets[v])
        size = np.uint64(indptr[cell + 1]) - begin
        for i in range(size):
            out_tokens[write + i] = tokens[begin + i]
        for i in range(size):
            out_counts[write + i] = counts[begin + i]


@compiled
def pack_tokens(rows, begin, ends, source, slots):  # type: ignore[no-untyped-def]
    """Write position and slot of each token of the cells ``rows`` (S, K + 1).

    The tokens of cell v begin at ``begin[v]``; those of entry i of the flattened table end, packed, at ``ends[i]``.
    """
    num_slots = rows.shape[1]
    write = np.uint64(0)
    for s in range(rows.shape[0]):
        for slot in range(num_slots):
            end = np.uint64(ends[s * num_slots + slot])
            if end == write:
                continue
            shift = np.int64(begin[rows[s, slot]]) - np.int64(write)
            for i in range(write, end):
                source[i] = shift + np.int64(i)
            for i in range(write, end):
                slots[i] = slot
            write = end
