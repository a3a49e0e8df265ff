"""Rows of a CSR matrix of counts to tokens in the order of their values, in numba.

Columns are first given slots: columns of one slot are summed, a column without a slot (-1) is left out.
"""

import numpy as np

from stgraph._compiled import compiled

_LOW = np.uint64(0xFFFFFFFF)
_BYTE = np.uint64(0xFF)


@compiled
def mix(number):  # type: ignore[no-untyped-def]
    """A number that looks random, the same for the same number: SplitMix64 (Steele, Lea and Flood 2014)."""
    z = number + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def bits_of(value):  # type: ignore[no-untyped-def]
    """The bits of a float64, as a whole number."""
    return np.float64(value).view(np.uint64)


@compiled
def gather(begin, end, indices, data, slot_of, sums, touched):  # type: ignore[no-untyped-def]
    """Sum one row by slot; give the number of slots with counts, now in ``touched``, and the sum over all columns."""
    total, size = 0.0, 0
    for position in range(begin, end):
        value = np.float64(data[position])
        if value == 0:
            continue
        total += value
        slot = slot_of[indices[position]]
        if slot < 0:
            continue
        if sums[slot] == 0:
            touched[size] = slot
            size += 1
        sums[slot] += value
    return size, total


@compiled
def shuffled(slot, key):  # type: ignore[no-untyped-def]
    """A number of 32 bits, another for each slot, in an order that depends on ``key``: lowbias32 by C. Wellons."""
    x = (slot ^ key) & _LOW
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D)) & _LOW
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B)) & _LOW
    return x ^ (x >> np.uint64(16))


@compiled
def unshuffled(x, key):  # type: ignore[no-untyped-def]
    """The slot that `shuffled` was given."""
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x43021123)) & _LOW
    x = ((x ^ (x >> np.uint64(15)) ^ (x >> np.uint64(30))) * np.uint64(0x1D69E2A5)) & _LOW
    return ((x ^ (x >> np.uint64(16))) ^ key) & _LOW


@compiled
def radix_sort(keys, spare, size, counts, lowest):  # type: ignore[no-untyped-def]
    """Sort ``size`` keys by their bytes from ``lowest`` to 7; give the array, of the two, that they are in then."""
    if size == 0:
        return keys
    counts[lowest:] = 0
    for i in range(size):
        for byte in range(lowest, 8):
            counts[byte, (keys[i] >> np.uint64(8 * byte)) & _BYTE] += 1
    for byte in range(lowest, 8):
        shift = np.uint64(8 * byte)
        if counts[byte, (keys[0] >> shift) & _BYTE] == size:
            continue  # all have the same
        place = 0
        for digit in range(256):
            number = counts[byte, digit]
            counts[byte, digit] = place
            place += number
        for i in range(size):
            digit = (keys[i] >> shift) & _BYTE
            spare[counts[byte, digit]] = keys[i]
            counts[byte, digit] += 1
        keys, spare = spare, keys
    return keys


@compiled
def count_tokens(start, stop, indptr, indices, data, slot_of, num_slots, most, lengths):  # type: ignore[no-untyped-def]
    """``lengths`` of the rows from ``start`` to ``stop``: slots with counts, ``most`` at the most."""
    last = np.full(num_slots, -1, dtype=np.int64)
    for row in range(start, stop):
        size = 0
        for position in range(indptr[row], indptr[row + 1]):
            slot = slot_of[indices[position]]
            if slot >= 0 and data[position] > 0 and last[slot] != row:
                last[slot] = row
                size += 1
        lengths[row] = min(size, most)


@compiled
def write_tokens(  # type: ignore[no-untyped-def]
    start,
    stop,
    indptr,
    indices,
    data,
    slot_of,
    token_of,
    median_of,
    target,
    seed,
    first_row,
    cls,
    offsets,
    tokens,
    values,
):
    """Write ``tokens`` (and ``values``, if it has room) of the rows from ``start`` to ``stop``.

    ``seed`` 0 keeps ties in the order of slots; another seed shuffles them in each row. ``cls`` below 0 is not written.
    """
    num_slots = len(token_of)
    sums, ranked = np.zeros(num_slots), np.zeros(num_slots)
    touched = np.empty(num_slots, dtype=np.int64)
    keys, spare = np.empty(num_slots, dtype=np.uint64), np.empty(num_slots, dtype=np.uint64)
    counts = np.zeros((8, 256), dtype=np.int32)
    for row in range(start, stop):
        size, total = gather(indptr[row], indptr[row + 1], indices, data, slot_of, sums, touched)
        order = mix(np.uint64(first_row + row) ^ mix(seed)) & _LOW
        rising = True
        for k in range(size):
            slot = touched[k]
            # In this order of operations, so that values tie where they do in the published tokenizer.
            ranked[slot] = sums[slot] / total * target / median_of[slot]
            tie = shuffled(np.uint64(slot), order) if seed else np.uint64(slot)
            # Of positive floats, larger ones have larger bits; the upper half and the tie make the key.
            keys[k] = (~bits_of(ranked[slot]) & ~_LOW) | tie
            rising &= k == 0 or touched[k - 1] < slot
        ordered = radix_sort(keys, spare, size, counts, 4 if rising and not seed else 0)
        for k in range(size):
            slot = np.int64(unshuffled(ordered[k] & _LOW, order) if seed else ordered[k] & _LOW)
            touched[k] = slot
            # Values that only differ in the lower half of their bits are not in order yet.
            i = k
            while i > 0 and ranked[touched[i - 1]] < ranked[slot]:
                touched[i] = touched[i - 1]
                i -= 1
            touched[i] = slot
        write = offsets[row]
        if cls >= 0:
            tokens[write] = cls
            write += 1
        for k in range(offsets[row + 1] - write):
            slot = touched[k]
            tokens[write + k] = token_of[slot]
            if len(values):
                values[write + k] = sums[slot] / total * target
        for k in range(size):
            sums[touched[k]] = 0.0
