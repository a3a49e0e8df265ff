import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.spatial import CoordinateBisection, bisect, split_large
from stgraph.testing.partitioners import PartitionerContract


class TestContract(PartitionerContract):
    make = staticmethod(CoordinateBisection)


def graph_at(pos):
    return SliceGraph("s", np.zeros((len(pos), 1), np.float32), pos, None, None, 1.0, "um")


@pytest.mark.parametrize("part_size", [30, 70, 100])
def test_parts_are_even(part_size):
    pos = np.random.default_rng(0).normal(size=(500, 2)) ** 3  # heavy tails: an uneven tissue
    sizes = CoordinateBisection(part_size)(graph_at(pos)).sizes
    assert len(sizes) == round(500 / part_size)
    assert np.ptp(sizes) <= 1


def test_cuts_across_the_longest_extent():
    pos = np.random.default_rng(0).permutation(np.arange(90.0))[:, None] * [0.6, -0.8]
    membership = bisect(pos, 3)[np.argsort(pos[:, 0])]
    np.testing.assert_array_equal(np.flatnonzero(np.diff(membership)), [29, 59])


def test_cells_that_tie_go_left_in_order():
    assert bisect(np.zeros((5, 2)), 2).tolist() == [0, 0, 0, 1, 1]
    pos = np.array([[0.0, 0.0], [9.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    left = bisect(pos, 2) == bisect(pos, 2)[0]
    assert left.tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_a_turned_slice_is_cut_the_same_way(mirror):
    pos = np.random.default_rng(0).uniform(size=(300, 2)) * [5.0, 1.0]
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1.0, mirror])
    moved = pos @ turn.T * 137.0 + [1e5, -300.0]
    first, second = (CoordinateBisection(60)(graph_at(p)).membership for p in (pos, moved))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e308])
def test_powers_of_coordinates_neither_overflow_nor_vanish(scale):
    pos = np.random.default_rng(0).uniform(-1, 1, size=(300, 2))
    np.testing.assert_array_equal(bisect(pos * scale, 7), bisect(pos, 7))


def test_only_large_parts_are_split():
    rng = np.random.default_rng(0)
    pos, membership = rng.uniform(size=(600, 2)), np.repeat([5, 1, 3], [150, 151, 299])
    split = split_large(pos, membership, 100, 150)
    assert len(np.unique(split[:150])) == 1
    assert sorted(np.bincount(split[150:])[np.unique(split[150:])]) == [75, 76, 99, 100, 100]
    assert len(np.unique(split)) == 6


def test_senseless_part_size():
    with pytest.raises(InputError, match="CoordinateBisection needs a part_size of at least 1, not 0"):
        CoordinateBisection(0)
