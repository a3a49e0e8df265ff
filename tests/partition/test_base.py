import pickle

import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.partition.base import Partition, count_parts, even_bounds, size_bound
from stgraph.partition.space_filling import SpaceFillingCurve


def test_parts_are_numbered_without_gaps():
    partition = Partition.from_membership(np.array([7, 2, 7, 9]))
    assert partition.num_parts == 3
    assert partition.membership.tolist() == [1, 0, 1, 2]
    assert partition.sizes.tolist() == [1, 2, 1]


@pytest.mark.parametrize("num_parts", [40, 70_000])  # sorted by another method above 65,536
def test_cells_of_each_part(num_parts):
    membership = np.random.default_rng(0).permutation(np.arange(100_000) % num_parts)
    partition = Partition(membership, num_parts)
    for part in (0, 1, 17, num_parts - 1):
        cells = partition.cells(part)
        np.testing.assert_array_equal(cells, np.flatnonzero(membership == part))
        assert cells.dtype == np.int64


def test_changing_cells_does_not_change_the_partition():
    partition = Partition.from_membership(np.array([0, 1, 0]))
    partition.cells(0)[:] = -1
    assert pickle.loads(pickle.dumps(partition)).cells(0).tolist() == [0, 2]


def test_count_parts():
    assert [count_parts(n, 1000) for n in (1, 1400, 1600, 50_000)] == [1, 1, 2, 50]


def test_even_shares_keep_the_bound():
    for part_size in range(1, 30):
        for num_cells in range(1, 8 * part_size):
            sizes = np.diff(even_bounds(num_cells, count_parts(num_cells, part_size)))
            assert sizes.sum() == num_cells
            assert np.ptp(sizes) <= 1
            assert sizes.max() <= size_bound(part_size) <= 1.5 * part_size


@pytest.mark.parametrize("part", [-1, 2])
def test_no_such_part(part):
    with pytest.raises(InputError, match=f"has parts 0 to 1, not {part}"):
        Partition.from_membership(np.array([0, 1, 0])).cells(part)


@pytest.mark.parametrize("part_size", ["100", 100.5, True])
def test_a_part_size_is_a_whole_number(part_size):
    with pytest.raises(InputError, match=f"SpaceFillingCurve needs a whole number as its part_size, not {part_size!r}"):
        SpaceFillingCurve(part_size)
    assert SpaceFillingCurve(np.int64(100)).max_size == 150
