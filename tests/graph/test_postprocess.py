import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.builders import KNN, Radius
from stgraph.graph.delaunay import Delaunay
from stgraph.graph.edges import edges_to_csr
from stgraph.graph.joining import BridgeIsolated, SelfLoops, Symmetrize
from stgraph.graph.postprocess import PostProcessed
from stgraph.graph.pruning import LargestComponent, LengthPercentile, MaxLength, MaxNeighbors, Mutual
from stgraph.testing.builders import GraphBuilderContract


class TestPostProcessedContract(GraphBuilderContract):
    make = staticmethod(
        lambda: PostProcessed(
            KNN(8, symmetric=False), [LengthPercentile(95.0), Mutual(), BridgeIsolated(2), Symmetrize()]
        )
    )


class TestPrunedDelaunayContract(GraphBuilderContract):
    make = staticmethod(lambda: PostProcessed(Delaunay(), (MaxLength(28.0),)))


compiles = settings(deadline=None)
"""The first example waits for the compiler."""

# A graph as the brute-force oracles see it: who has an edge, and everybody's distance.


def dense(near):
    edge = np.zeros(near.shape, dtype=bool)
    edge[np.repeat(np.arange(near.shape[0]), np.diff(near.indptr)), near.indices] = True
    return edge


def distances(pos):
    return np.linalg.norm(pos[:, None] - pos[None], axis=2)


def csr(edge, pos):
    row, col = np.nonzero(edge)
    return sp.csr_matrix((distances(pos)[row, col], (row, col)), shape=edge.shape)


@st.composite
def graphs(draw, symmetric=None):
    """Random, clustered, collinear or coincident cells with any edges, also none."""
    n = draw(st.integers(1, 14))
    kind = draw(st.sampled_from(["random", "lattice", "line", "point"]))
    if kind == "random":
        elements = st.floats(-100, 100).map(lambda v: round(v, 2))
    else:
        elements = st.integers(0, {"lattice": 3, "line": 9, "point": 0}[kind]).map(float)
    pos = draw(arrays(float, (n, 2), elements=elements)) * ([1.0, 0.0] if kind == "line" else [1.0, 1.0])
    share = draw(st.sampled_from([0.0, 0.05, 0.3, 0.8, 1.0]))
    edge = np.random.default_rng(draw(st.integers(0, 999))).random((n, n)) < share
    np.fill_diagonal(edge, False)
    if draw(st.booleans()) if symmetric is None else symmetric:
        edge |= edge.T
    return pos, edge


def run(step, pos, edge):
    """What a step makes of a graph, and what it says; the form of its result is checked."""
    near = csr(edge, pos)
    before = near.copy()
    for part in (near.data, near.indices, near.indptr, pos):
        part.flags.writeable = False
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = step(near, pos)
    np.testing.assert_array_equal(near.data, before.data)
    assert isinstance(result, sp.csr_matrix)
    assert result.shape == near.shape
    assert not np.shares_memory(result.data, near.data)
    row = np.repeat(np.arange(len(pos)), np.diff(result.indptr))
    assert (np.diff(row * len(pos) + result.indices) > 0).all()  # in order, none twice
    np.testing.assert_array_equal(result.data, distances(pos)[row, result.indices])
    return dense(result), [str(warning.message) for warning in said]


@given(graphs(), st.floats(0.1, 200))
@compiles
def test_max_length(graph, max_length):
    pos, edge = graph
    assume((np.abs(distances(pos) - max_length) > 1e-6).all())
    found, said = run(MaxLength(max_length), pos, edge)
    np.testing.assert_array_equal(found, edge & (distances(pos) <= max_length))
    assert not said


def test_as_long_as_the_limit_is_not_longer():
    pos = np.array([[0.0, 0.0], [0.3, 0.0], [0.1 + 0.2, 0.3]])  # 0.1 + 0.2 > 0.3 in floating point
    assert MaxLength(0.3)(csr(distances(pos) < 0.35, pos), pos).nnz == csr(distances(pos) < 0.35, pos).nnz


@given(graphs(), st.floats(0, 100))
@compiles
def test_length_percentile(graph, percentile):
    pos, edge = graph
    found, _ = run(LengthPercentile(percentile), pos, edge)
    distance = distances(pos)
    if edge.any():
        longest = np.percentile(distance[edge], percentile)
        np.testing.assert_array_equal(found, edge & (distance <= longest * (1 + 1e-9)))
    else:
        assert not found.any()


def test_percentile_of_a_lattice_keeps_ties():
    pos = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), -1).reshape(-1, 2) @ [[0.8, 0.6], [-0.6, 0.8]]
    near = Radius(1.1)(pos)
    assert len(np.unique(near.data)) > 1  # rounding
    for percentile in (0.0, 50.0, 99.0):
        assert LengthPercentile(percentile)(near, pos).nnz == near.nnz


def test_self_loops_do_not_count_for_the_percentile():
    pos = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    near = SelfLoops()(Radius(2.5)(pos), pos)
    # Of the lengths 1, 1, 2, 2 the 80th percentile is 2; with three zeros it would be 1.8.
    assert LengthPercentile(80.0)(near, pos).nnz == near.nnz == 7
    assert LengthPercentile(50.0)(near, pos).nnz == 5


@given(graphs())
@compiles
def test_symmetrize_and_mutual(graph):
    pos, edge = graph
    np.testing.assert_array_equal(run(Symmetrize(), pos, edge)[0], edge | edge.T)
    np.testing.assert_array_equal(run(Mutual(), pos, edge)[0], edge & edge.T)


def nearest_of_each(pos, edge, cap):
    """Its nearest for each cell, ties by index; lengths are compared rounded."""
    distance = distances(pos).round(6)
    nearest = np.zeros_like(edge)
    for i in range(len(pos)):
        neighbors = sorted(np.flatnonzero(edge[i]), key=lambda j: (distance[i, j], j))
        nearest[i, neighbors[:cap]] = True
    return nearest


@given(graphs(), st.integers(1, 6))
@compiles
def test_max_neighbors(graph, cap):
    pos, edge = graph
    found, said = run(MaxNeighbors(cap), pos, edge)
    nearest = nearest_of_each(pos, edge, cap)
    np.testing.assert_array_equal(found, nearest & (nearest.T | ~edge.T))
    assert found.sum(axis=1).max() <= cap
    if (edge == edge.T).all():
        np.testing.assert_array_equal(found, found.T)
    removed = (edge & ~found) | (edge & ~found).T
    n_above = (edge.sum(axis=1) > cap).sum()
    if n_above:
        # An edge that lost one direction has lost it, the other direction having been there or not.
        assert said == [
            f"MaxNeighbors({cap}): {n_above} of {len(pos)} cells had more than {cap} neighbours; "
            f"{np.triu(removed).sum()} edges were removed."
        ]
    else:
        assert not said
        np.testing.assert_array_equal(found, edge)


def test_ties_at_the_cap_go_by_the_order_of_the_cells_not_by_rounding():
    angle = np.arange(12) * np.pi / 6 + 0.1
    pos = np.concatenate([[[0.0, 0.0]], np.stack([np.cos(angle), np.sin(angle)], axis=1) * 0.7])
    near = edges_to_csr(pos, np.zeros(12, dtype=int), np.arange(1, 13), symmetric=True)
    assert len(np.unique(near.data)) > 1
    with pytest.warns(StgraphWarning, match=r"1 of 13 cells had more than 5 neighbours; 7 edges were removed"):
        capped = MaxNeighbors(5)(near, pos)
    assert capped[0].indices.tolist() == [1, 2, 3, 4, 5]
    assert np.diff(capped.indptr).tolist() == [5] + 5 * [1] + 7 * [0]


def test_a_cap_that_nobody_reaches_says_nothing():
    pos = np.random.default_rng(0).uniform(0, 100, (200, 2))
    near = Radius(20.0)(pos)
    most = int(np.diff(near.indptr).max())
    assert (MaxNeighbors(most)(near, pos) != near).nnz == 0
    with pytest.warns(StgraphWarning):
        MaxNeighbors(most - 1)(near, pos)


def test_the_cap_of_a_crowd():
    """Rows of any length, more than a hundred included."""
    pos = np.random.default_rng(0).uniform(0, 100, (150, 2))
    edge = ~np.eye(150, dtype=bool)
    for cap in (1, 60, 140):
        nearest = nearest_of_each(pos, edge, cap)
        np.testing.assert_array_equal(run(MaxNeighbors(cap), pos, edge)[0], nearest & nearest.T)


def component_of(edge):
    """Lowest index that can be reached from each cell."""
    label = np.arange(len(edge))
    for _ in label:
        label = np.minimum(label, np.where(edge | edge.T, label, len(edge)).min(axis=1))
    return label


@given(graphs())
@compiles
def test_largest_component(graph):
    pos, edge = graph
    found, said = run(LargestComponent(), pos, edge)
    label = component_of(edge)
    size = np.bincount(label)
    inside = label == size.argmax()  # of several the one whose lowest cell is lowest
    np.testing.assert_array_equal(found, edge & inside[:, None])
    n_lost = ((edge | edge.T).any(axis=1) & ~inside).sum()
    if n_lost:
        assert said == [
            f"LargestComponent: {n_lost} of {len(pos)} cells are outside the largest component ({size.max()} cells) "
            "and lost their edges."
        ]
    else:
        assert not said


@given(graphs(), st.integers(1, 4))
@compiles
def test_bridge_isolated(graph, n_neighbors):
    pos, edge = graph
    found, said = run(BridgeIsolated(n_neighbors), pos, edge)
    distance = distances(pos)
    np.fill_diagonal(distance, np.inf)
    expected = edge.copy()
    for i in np.flatnonzero(~(edge | edge.T).any(axis=1)) if len(pos) > 1 else []:
        reach = np.sort(distance[i])[min(n_neighbors, len(pos) - 1) - 1]
        near = distance[i] <= reach * (1 + 1e-9)
        expected[i] |= near
        expected[:, i] |= near
    np.testing.assert_array_equal(found, expected)
    assert len(pos) == 1 or (found | found.T).any(axis=1).all()
    assert not said


@given(graphs())
@compiles
def test_self_loops(graph):
    pos, edge = graph
    found, _ = run(SelfLoops(), pos, edge)
    np.testing.assert_array_equal(found, edge | np.eye(len(pos), dtype=bool))
    np.testing.assert_array_equal(run(SelfLoops(), pos, found)[0], found)


@given(graphs(), st.integers(1, 4))
@compiles
def test_a_cell_is_not_its_own_neighbour_to_the_steps(graph, n):
    """Self-loops neither count nor get lost, but with the component they are outside of."""
    pos, edge = graph
    loops = np.eye(len(pos), dtype=bool)
    for step in (MaxNeighbors(n), MaxLength(3.0), LengthPercentile(50.0), Symmetrize(), Mutual(), BridgeIsolated(n)):
        np.testing.assert_array_equal(run(step, pos, edge | loops)[0], run(step, pos, edge)[0] | loops)


@given(graphs(symmetric=True))
@settings(max_examples=30, deadline=None)
def test_symmetric_stays_symmetric(graph):
    pos, edge = graph
    for step in (
        MaxNeighbors(2),
        MaxLength(2.0),
        LengthPercentile(70.0),
        LargestComponent(),
        BridgeIsolated(),
        Mutual(),
    ):
        found, _ = run(step, pos, edge)
        np.testing.assert_array_equal(found, found.T)


def test_rows_may_be_in_any_order():
    """As the matrices of others are."""
    pos = np.random.default_rng(0).uniform(0, 100, (60, 2))
    near = KNN(7, symmetric=False)(pos)
    order = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(near.indptr[:-1], near.indptr[1:], strict=True)])
    mixed = sp.csr_matrix((near.data[order], near.indices[order], near.indptr), shape=near.shape)
    assert not mixed.has_sorted_indices
    for step in (MaxLength(9.0), Symmetrize(), Mutual(), MaxNeighbors(3), BridgeIsolated(), SelfLoops()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StgraphWarning)
            expected, found = step(near, pos), step(mixed, pos)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(mixed.indices, near.indices[order])


def test_steps_run_in_their_order():
    pos = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    assert PostProcessed(Radius(2.0), [BridgeIsolated(), MaxLength(5.0)])(pos).nnz == 2
    assert PostProcessed(Radius(2.0), [MaxLength(5.0), BridgeIsolated()])(pos).nnz == 4
    assert PostProcessed(Radius(2.0))(pos).nnz == 2


@pytest.mark.parametrize(
    ("builder", "in_microns"),
    [
        (PostProcessed(KNN(3), [Mutual()]), False),
        (PostProcessed(KNN(3), [Mutual(), MaxLength(3.0)]), True),
        (PostProcessed(Radius(3.0), []), True),
        (PostProcessed(Delaunay(), [LengthPercentile(99.0), LargestComponent()]), False),
        (PostProcessed(PostProcessed(Delaunay(max_length=3.0)), [BridgeIsolated(2), SelfLoops()]), True),
    ],
)
def test_unit_and_config(builder, in_microns):
    assert builder.in_microns == in_microns
    again = instantiate(to_config(builder))
    assert again == builder
    assert hash(again) == hash(builder)


def test_a_slice_of_unknown_unit(tissue):
    tissue.uns["stgraph"] = {"unit": "unknown", "um_per_unit": np.nan}
    with pytest.raises(InputError, match="PostProcessed counts in microns"):
        stgraph.build_graph(tissue, builder=PostProcessed(KNN(5), [MaxLength(30.0)]), virtual_cells=None)


def test_in_a_graph_of_a_tissue(tissue):
    builder = PostProcessed(Radius(30.0), [MaxNeighbors(6), BridgeIsolated()])
    with pytest.warns(StgraphWarning, match=r"MaxNeighbors\(6\): \d+ of 320 cells"):
        graph = stgraph.build_graph(tissue, builder=builder, virtual_cells=None)
    assert (np.diff(graph.near.indptr) > 0).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: MaxLength(0.0), "positive max_length"),
        (lambda: MaxLength(float("nan")), "positive max_length"),
        (lambda: LengthPercentile(101.0), "between 0 and 100"),
        (lambda: LengthPercentile(float("nan")), "between 0 and 100"),
        (lambda: MaxNeighbors(0), "max_neighbors of at least 1"),
        (lambda: BridgeIsolated(0), "n_neighbors of at least 1"),
        (lambda: PostProcessed(KNN(3), Mutual()), "a list of steps, not Mutual"),
        (lambda: PostProcessed(KNN(3), ["mutual"]), "'mutual' is none"),
        (lambda: PostProcessed(None, []), "None is none"),
    ],
)
def test_senseless_parameters(make, match):
    with pytest.raises(InputError, match=match):
        make()
