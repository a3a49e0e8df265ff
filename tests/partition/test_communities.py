import numpy as np
import pytest
import scipy.sparse as sp

from stgraph.errors import InputError
from stgraph.graph.builders import KNN, Radius
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.communities import Communities
from stgraph.testing.partitioners import PartitionerContract


class TestContract(PartitionerContract):
    make = staticmethod(Communities)


class TestOneCommunityForAll(PartitionerContract):
    make = staticmethod(lambda part_size: Communities(part_size, resolution=1e-6))


class TestCommunitiesOfOneCell(PartitionerContract):
    make = staticmethod(lambda part_size: Communities(part_size, resolution=1e6))


def graph_of(pos, near):
    return SliceGraph("s", np.zeros((len(pos), 1), np.float32), pos, near, None, 1.0, "um")


def islands(sizes, gap=100.0):
    rng = np.random.default_rng(0)
    centre = np.repeat(np.arange(len(sizes)), sizes)[:, None] * [gap, 0.0]
    return centre + rng.uniform(0, 5, (sum(sizes), 2))


def test_parts_end_where_the_tissue_does():
    sizes = [100, 80, 120, 60]
    pos = islands(sizes)
    partition = Communities(100)(graph_of(pos, Radius(3.0)(pos)))
    island = np.repeat(np.arange(4), sizes)
    np.testing.assert_array_equal(partition.membership[:, None] == partition.membership, island[:, None] == island)


def test_large_communities_are_bisected():
    pos = islands([160, 100])
    assert sorted(Communities(100, resolution=0.1)(graph_of(pos, Radius(9.0)(pos))).sizes) == [80, 80, 100]


def cliques(sizes, bridges):
    """Complete graphs, with so many edges between each two that ``bridges`` names."""
    begin = np.concatenate([[0], np.cumsum(sizes)])
    group = np.repeat(np.arange(len(sizes)), sizes)
    edges = group[:, None] == group
    np.fill_diagonal(edges, False)
    for (one, other), count in bridges.items():
        for i in range(count):
            row, col = begin[one] + i % sizes[one], begin[other] + i // sizes[one]
            edges[row, col] = edges[col, row] = True
    return graph_of(np.random.default_rng(0).uniform(size=(len(group), 2)), sp.csr_matrix(edges.astype(float)))


@pytest.fixture
def groups(monkeypatch):
    """Which cliques, each of them a community, are in a part together."""

    def found(sizes, bridges, part_size):
        group = np.repeat(np.arange(len(sizes)), sizes)
        monkeypatch.setattr("stgraph.partition.communities.leiden", lambda *_, **__: group)
        membership = Communities(part_size)(cliques(sizes, bridges)).membership
        return sorted(np.unique(group[membership == part]).tolist() for part in np.unique(membership))

    return found


def test_small_ones_join_the_neighbour_with_most_edges(groups):
    assert groups([30, 12, 30], {(0, 1): 3, (1, 2): 6}, 40) == [[0], [1, 2]]
    assert groups([30, 12, 30], {(0, 1): 6, (1, 2): 3}, 40) == [[0, 1], [2]]


def test_small_ones_join_none_without_room(groups):
    assert groups([30, 12, 55], {(0, 1): 3, (1, 2): 6}, 40) == [[0, 1], [2]]
    assert groups([55, 12, 55], {(0, 1): 3, (1, 2): 6}, 40) == [[0], [1], [2]]


def test_small_ones_that_joined_count_as_one(groups):
    """The third has two edges to either of the first two, and three to the fourth: joined, the two have more."""
    assert groups([8, 9, 11, 35], {(0, 1): 9, (0, 2): 2, (1, 2): 2, (2, 3): 3}, 40) == [[0, 1, 2], [3]]


def test_those_without_room_or_neighbours_are_gathered_nearby():
    pos = islands([4] * 50)
    sizes = Communities(40)(graph_of(pos, Radius(6.0)(pos))).sizes
    assert len(sizes) == 5
    assert (sizes == 40).all()
    partition = Communities(40)(graph_of(pos, Radius(6.0)(pos)))
    for part in range(5):
        island = np.unique(partition.cells(part) // 4)
        assert np.ptp(island) == 9


def test_size_does_not_depend_on_the_slice():
    for n in (1000, 8000):
        pos = np.random.default_rng(0).uniform(size=(n, 2)) * np.sqrt(n)
        for k in (6, 18):
            sizes = Communities(100)(graph_of(pos, KNN(k)(pos))).sizes
            assert 60 <= sizes.mean() <= 140


def test_random_state_matters():
    pos = np.random.default_rng(0).uniform(size=(1000, 2))
    graph = graph_of(pos, KNN(6)(pos))
    first, second = (Communities(100, random_state=seed)(graph).membership for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part_size": 0}, "part_size of at least 1, not 0"),
        ({"resolution": 0.0}, "positive resolution, or None, not 0.0"),
        ({"resolution": np.nan}, "positive resolution, or None, not nan"),
        ({"n_iterations": 0}, "n_iterations of at least 1, or -1, not 0"),
    ],
)
def test_senseless_settings(arguments, message):
    with pytest.raises(InputError, match=message):
        Communities(**arguments)
