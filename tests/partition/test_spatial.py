import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.spatial import CoordinateBisection
from stgraph.testing.partitioners import PartitionerContract


class TestContract(PartitionerContract):
    make = staticmethod(CoordinateBisection)


def graph_at(pos):
    return SliceGraph("s", np.zeros((len(pos), 1), np.float32), pos, None, None, 1.0, "um")


@pytest.mark.parametrize("part_size", [30, 70, 100])
def test_parts_are_even(part_size):
    pos = np.random.default_rng(0).normal(size=(500, 2)) ** 3  # heavy tails: an uneven tissue
    sizes = np.bincount(CoordinateBisection(part_size)(graph_at(pos)).membership)
    assert len(sizes) == round(500 / part_size)
    assert sizes.max() - sizes.min() <= np.log2(len(sizes)) + 1


def test_a_turned_slice_is_cut_the_same_way():
    pos = np.random.default_rng(0).uniform(size=(300, 2)) * [5.0, 1.0]
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    first, second = (CoordinateBisection(100)(graph_at(p)).membership for p in (pos, pos @ turn.T))
    np.testing.assert_array_equal(first[:, None] == first, second[:, None] == second)


def test_senseless_part_size():
    with pytest.raises(InputError):
        CoordinateBisection(0)
