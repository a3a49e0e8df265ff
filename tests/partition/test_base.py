import numpy as np

from stgraph.partition.base import Partition, count_parts


def test_parts_are_numbered_without_gaps():
    partition = Partition.from_membership(np.array([7, 2, 7, 9]))
    assert partition.num_parts == 3
    assert partition.membership.tolist() == [1, 0, 1, 2]
    assert partition.cells(1).tolist() == [0, 2]


def test_count_parts():
    assert [count_parts(n, 1000) for n in (1, 1400, 1600, 50_000)] == [1, 1, 2, 50]
