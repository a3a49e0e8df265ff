from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stgraph.graph.search import KDTreeSearch
from stgraph.graph.spatial_order import checked_positions, spatial_order
from stgraph.graph.strips import within_radius

# Squares of smaller numbers are no longer numbers.
numbers = st.floats(-1e5, 1e5).map(lambda x: x if abs(x) > 1e-100 else 0.0)
coordinates = st.one_of(
    arrays(float, st.tuples(st.integers(1, 40), st.just(2)), elements=numbers),
    arrays(float, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(0, 4).map(float)),
    arrays(float, st.tuples(st.integers(1, 40), st.just(2)), elements=st.sampled_from([0.0, 0.1, 1e9, -1e300, 1e-9])),
)


def groups(order, start, neighbors):
    assert start[0] == 0
    assert start[-1] == len(neighbors)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(order)))
    found = {i: order[neighbors[a:b]] for i, (a, b) in zip(order.tolist(), pairwise(start), strict=True)}
    return [sorted(found[i].tolist()) for i in range(len(order))]


@settings(deadline=None, max_examples=200)
@given(coordinates, st.one_of(st.just(0.0), st.floats(1e-9, 1e6), st.sampled_from([1.0, 2.0, 0.1])))
def test_strips_find_what_brute_force_finds(pos, radius):
    with np.errstate(over="ignore"):
        distance = np.sqrt(((pos[:, None] - pos[None]) ** 2).sum(axis=2))
    least = [np.flatnonzero(row <= radius).tolist() for row in distance]
    most = [np.flatnonzero(row <= radius * (1 + 1e-11)).tolist() for row in distance]
    found = groups(*within_radius(pos, radius))
    for fewest, here, all_of_them in zip(least, found, most, strict=True):
        assert set(fewest) <= set(here) <= set(all_of_them)


def test_strips_in_several_threads():
    pos = np.random.default_rng(0).uniform(0, 1500, (45_000, 2))
    found = groups(*within_radius(pos, 12.0))
    for i in range(0, len(pos), 501):
        assert found[i] == np.flatnonzero(np.linalg.norm(pos - pos[i], axis=1) <= 12.0).tolist()


def test_within_is_of_the_smallest_type():
    found = KDTreeSearch().within(np.zeros((3, 2)), 0.0)
    assert groups(found.order, found.start, found.neighbors) == [[0, 1, 2]] * 3
    assert found.neighbors.dtype == np.int32


@pytest.mark.parametrize("k", [1, 5])
def test_nearest(k):
    pos = np.random.default_rng(0).normal(size=(300, 2))
    distance = np.linalg.norm(pos[:, None] - pos[None], axis=2)
    expected = np.argsort(distance, axis=1)[:, :k]
    np.testing.assert_array_equal(KDTreeSearch().nearest(pos, k), expected)
    rows = np.array([5, 3, 200])
    np.testing.assert_array_equal(KDTreeSearch().nearest(pos, k, rows), expected[rows])


def test_nearest_in_several_blocks(monkeypatch):
    monkeypatch.setattr("stgraph.graph.search._BLOCK", 64)
    pos = np.random.default_rng(0).normal(size=(100, 2))
    found = KDTreeSearch().nearest(pos, 7)
    monkeypatch.undo()
    np.testing.assert_array_equal(found, KDTreeSearch().nearest(pos, 7))
    assert KDTreeSearch().nearest(pos, 7, np.zeros(0, dtype=int)).shape == (0, 7)


@pytest.mark.parametrize("far", [None, 1e9, 1e300])
def test_neighbours_stand_near_each_other_in_the_order(far):
    pos = np.random.default_rng(0).uniform(0, 1000, (2000, 2))
    if far is not None:
        pos[7] = [far, -far]
    order = spatial_order(pos)
    np.testing.assert_array_equal(np.sort(order), np.arange(2000))
    if far != 1e300:
        step = np.linalg.norm(np.diff(pos[order], axis=0), axis=1)
        assert np.median(step) < 60  # of cells 22 apart; without order it is 500


def test_order_of_few_cells():
    assert spatial_order(np.zeros((0, 2))).tolist() == []
    assert sorted(spatial_order(np.ones((3, 2))).tolist()) == [0, 1, 2]


def test_positions_become_contiguous_floats():
    table = np.arange(12).reshape(3, 4)
    pos = checked_positions(table[:, 1:3])
    assert pos.dtype == np.float64
    assert pos.flags.c_contiguous
    np.testing.assert_array_equal(pos, table[:, 1:3])
