import random

import igraph
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from stgraph._config import instantiate, to_config
from stgraph.cli.compose import compose_config
from stgraph.errors import InputError
from stgraph.graph import virtual_cells
from stgraph.graph.expression_neighbors import expression_neighbors
from stgraph.graph.leiden import leiden
from stgraph.graph.virtual_cells import JointLeiden, aggregate


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 300)
    return kind, rng.normal(size=(300, 6)) + 6 * kind[:, None], rng.uniform(0, 100, (300, 2))


def test_expression_alone_finds_the_kinds(blobs):
    kind, x, pos = blobs
    virtual = JointLeiden(alpha=1.0, resolution=0.2)(x, pos)
    assert adjusted_rand_score(kind, virtual.membership) == 1.0


def test_space_alone_ignores_the_kinds(blobs):
    kind, x, pos = blobs
    virtual = JointLeiden(alpha=0.0)(x, pos)
    assert abs(adjusted_rand_score(kind, virtual.membership)) < 0.05
    spread = [pos[virtual.membership == v].std(axis=0).mean() for v in range(len(virtual))]
    assert np.mean(spread) < 0.6 * pos.std(axis=0).mean()


def test_aggregate_by_hand():
    virtual = aggregate(
        np.array([1, 0, 1]), np.array([[1.0], [5.0], [3.0]]), np.array([[0.0, 0.0], [9.0, 9.0], [2.0, 4.0]])
    )
    assert virtual.membership.tolist() == [0, 1, 0]  # the largest comes first
    assert virtual.num_cells.tolist() == [2, 1]
    np.testing.assert_array_equal(virtual.x, [[2.0], [5.0]])
    np.testing.assert_array_equal(virtual.pos, [[1.0, 2.0], [9.0, 9.0]])


def test_aggregate_of_virtual_cells_means_over_cells():
    rng = np.random.default_rng(0)
    fine, coarse = rng.permutation(np.arange(200) % 9), rng.permutation(np.arange(9) % 3)
    x, pos = rng.normal(size=(200, 4)), rng.normal(size=(200, 2))
    virtual = aggregate(fine, x, pos)
    parent = aggregate(coarse, virtual.x, virtual.pos, num_cells=virtual.num_cells)
    direct = aggregate(coarse[virtual.membership], x, pos)
    np.testing.assert_array_equal(parent.membership[virtual.membership], direct.membership)
    np.testing.assert_array_equal(parent.num_cells, direct.num_cells)
    np.testing.assert_allclose(parent.x, direct.x, atol=1e-6)
    np.testing.assert_allclose(parent.pos, direct.pos)


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 40])
def test_features_of_any_width_are_averaged(channels):
    rng = np.random.default_rng(channels)
    membership, x = rng.permutation(np.arange(50) % 4), rng.normal(size=(50, channels)).astype(np.float32)
    virtual = aggregate(membership, x, np.zeros((50, 2)))
    for v in range(4):
        np.testing.assert_allclose(virtual.x[v], x[virtual.membership == v].mean(axis=0), atol=1e-6)


ONES = np.ones((3, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.array([], dtype=int), ONES[:0], ONES[:0]), "There are no cells"),
        ((np.array([0, 0]), ONES, ONES), r"whole number for each of 3 cells, not int64 of shape \(2,\)"),
        ((np.array([0.0, 0.0, 0.0]), ONES, ONES), "whole number for each of 3 cells, not float64"),
        ((np.array([0, -1, 0]), ONES, ONES), "negative numbers"),
        ((np.array([0, 3, 3]), ONES, ONES), r"leaves 2 virtual cells empty \(the first is 1\)"),
        ((np.array([0, 0, 0]), ONES[:2], ONES), r"not \(2, 2\) and \(3, 2\)"),
        ((np.array([0, 0, 0]), ONES[:, 0], ONES), r"not \(3,\) and \(3, 2\)"),
        ((np.array([0, 0, 0]), ONES, np.ones((3, 3))), r"not \(3, 2\) and \(3, 3\)"),
        ((np.array([0, 0, 0]), np.array([[1.0], [np.nan], [np.inf]]), ONES), r"features of 2 of 3 .*first is cell 1"),
        ((np.array([0, 0, 0]), ONES, np.array([[0, 0], [0, 0], [0, np.nan]])), "positions of 1 of 3 cells"),
    ],
)
def test_aggregate_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        aggregate(*arguments)


@pytest.mark.parametrize("num_cells", [[1, 1], [1, 0, 1]])
def test_aggregate_refuses_wrong_numbers_of_cells(num_cells):
    with pytest.raises(InputError, match="positive number of cells"):
        aggregate(np.zeros(3, dtype=int), ONES, ONES, num_cells=np.array(num_cells))


def test_builder_refuses_gaps_in_features(blobs):
    _, x, pos = blobs
    x = np.where(np.arange(300)[:, None] == 7, np.nan, x)
    with pytest.raises(InputError, match=r"features of 1 of 300 cells are not finite \(the first is cell 7\)"):
        JointLeiden()(x, pos)


@pytest.mark.parametrize("exact", [True, False])
def test_joint_graph_by_brute_force(blobs, exact, monkeypatch):
    _, x, pos = blobs
    if not exact:
        monkeypatch.setattr(
            virtual_cells, "expression_neighbors", lambda *a, **k: expression_neighbors(*a, exact_up_to=0, **k)
        )
    seen = []
    monkeypatch.setattr(virtual_cells, "leiden", lambda graph, **k: seen.append(graph) or leiden(graph, **k))
    virtual = JointLeiden(alpha=0.7, n_neighbors=4)(x, pos)
    expected = np.zeros((300, 300))
    for weight, points in ((0.3, pos), (0.7, x)):
        nearest = np.argsort(cdist(points, points) + np.diag(np.full(300, np.inf)), axis=1)[:, :4]
        np.add.at(expected, (np.arange(300)[:, None], nearest), weight)
    order = np.lexsort(abs(x.T[::-1]))
    np.testing.assert_allclose(seen[0].toarray(), (expected + expected.T)[order][:, order], atol=1e-6)
    assert len(virtual) == leiden(seen[0], resolution=1.0, random_state=0).max() + 1


def test_cap(blobs):
    _, x, pos = blobs
    builder = JointLeiden(alpha=0.0, resolution=20.0)
    assert len(builder(x, pos)) > 12
    assert 9 < len(JointLeiden(alpha=0.0, resolution=20.0, max_virtual=12)(x, pos)) <= 12


@given(
    islands=st.integers(1, 60), cells=st.integers(1, 6), most=st.integers(1, 20), alpha=st.sampled_from([0.0, 0.5, 1.0])
)
@settings(max_examples=40, deadline=None)
def test_cap_holds_for_islands_that_share_no_edge(islands, cells, most, alpha):
    rng = np.random.default_rng(islands)
    island = np.repeat(np.arange(islands), cells)
    x = 1e3 * rng.normal(size=(islands, 3))[island] + rng.normal(size=(len(island), 3))
    pos = 1e3 * rng.normal(size=(islands, 2))[island] + rng.normal(size=(len(island), 2))
    neighbors = max(cells - 1, 1)
    virtual = JointLeiden(alpha=alpha, n_neighbors=neighbors, max_virtual=most)(x, pos)
    assert len(virtual) <= most
    assert virtual.num_cells.sum() == len(island)
    if islands <= most and cells > 1:
        assert len(virtual) >= islands  # as large as each other, so each stays


def test_merging_keeps_what_does_not_depend_on_how_the_slice_lies(blobs):
    _, x, pos = blobs
    builder = JointLeiden(resolution=20.0, max_virtual=12)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    order = np.random.default_rng(1).permutation(len(x))
    expected = builder(x, pos).membership
    np.testing.assert_array_equal(builder(x, pos @ turn.T + 7).membership, expected)
    np.testing.assert_array_equal(builder(x[order], pos[order]).membership, expected[order])


def test_leidenalg_finds_the_kinds_too(blobs):
    kind, x, pos = blobs
    virtual = JointLeiden(alpha=1.0, resolution=0.2, flavor="leidenalg")(x, pos)
    assert adjusted_rand_score(kind, virtual.membership) == 1.0


def test_rotation_mirror_and_sign_of_an_axis_change_nothing(blobs):
    _, x, pos = blobs
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1.0, -1.0])
    expected = JointLeiden()(x, pos).membership
    np.testing.assert_array_equal(JointLeiden()(x, pos @ turn.T + 7).membership, expected)
    # Of the first axis, too, by which cells are ordered, and so where Leiden starts.
    for signs in ([-1, 1, 1, 1, 1, 1], [1, -1, 1, -1, 1, 1], [-1] * 6):
        np.testing.assert_array_equal(JointLeiden()(x * signs, pos).membership, expected)


def test_rotation_of_a_lattice_changes_nothing(blobs):
    _, x, _ = blobs
    row, column = np.divmod(np.arange(300), 18)
    lattice = np.stack([column + 0.5 * (row % 2), row * np.sqrt(3) / 2], axis=1) * 100
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    expected = JointLeiden()(x, lattice).membership
    np.testing.assert_array_equal(JointLeiden()(x, lattice @ turn.T + 1e4).membership, expected)


def test_permutation(blobs):
    _, x, pos = blobs
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_array_equal(
        JointLeiden()(x, pos).membership[order], JointLeiden()(x[order], pos[order]).membership
    )


def test_igraph_gets_its_own_generator_back(blobs):
    _, x, pos = blobs
    random.seed(3)
    expected = random.random()
    random.seed(3)
    JointLeiden()(x, pos)
    assert random.random() == expected
    assert igraph.Graph.Erdos_Renyi(5, 0.5).vcount() == 5


@pytest.mark.parametrize("n", [1, 2, 3, 10, 11])
def test_no_more_cells_than_neighbors(n):
    rng = np.random.default_rng(n)
    virtual = JointLeiden(n_neighbors=10)(rng.normal(size=(n, 3)), rng.normal(size=(n, 2)))
    assert virtual.num_cells.sum() == n
    assert len(JointLeiden(max_virtual=1)(rng.normal(size=(n, 3)), rng.normal(size=(n, 2)))) == 1


def test_all_cells_the_same():
    assert JointLeiden()(np.ones((20, 3)), np.ones((20, 2))).num_cells.sum() == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 1.5},
        {"alpha": float("nan")},
        {"resolution": 0.0},
        {"n_neighbors": 0},
        {"max_virtual": 0},
        {"flavor": "louvain"},
        {"n_iterations": 0},
    ],
)
def test_senseless_parameters(wrong):
    with pytest.raises(InputError, match="JointLeiden"):
        JointLeiden(**wrong)


@pytest.mark.parametrize("choice", ["joint_leiden", "stofm", "hierarchical"])
def test_configs_are_the_defaults_and_survive_a_round_trip(choice):
    built = instantiate(compose_config("fit", [f"virtual_cells={choice}"])["virtual_cells"])
    assert built == type(built)()
    assert instantiate(to_config(built)) == built
