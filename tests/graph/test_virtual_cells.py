import random

import igraph
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from stgraph.errors import InputError
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


def test_cap(blobs):
    _, x, pos = blobs
    builder = JointLeiden(alpha=0.0, resolution=20.0)
    assert len(builder(x, pos)) > 12
    assert len(JointLeiden(alpha=0.0, resolution=20.0, max_virtual=12)(x, pos)) <= 12


def test_rotation_mirror_and_sign_of_an_axis_change_nothing(blobs):
    _, x, pos = blobs
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1.0, -1.0])
    expected = JointLeiden()(x, pos).membership
    np.testing.assert_array_equal(JointLeiden()(x, pos @ turn.T + 7).membership, expected)
    flipped = JointLeiden()(x * [1, -1, 1, -1, 1, 1], pos).membership
    assert adjusted_rand_score(flipped, expected) > 0.8  # another order of the nodes, so another start of Leiden


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


def test_two_cells():
    assert len(JointLeiden()(np.eye(2), np.eye(2)).membership) == 2


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"resolution": 0.0}, {"n_neighbors": 0}, {"max_virtual": 0}])
def test_senseless_parameters(wrong):
    with pytest.raises(InputError):
        JointLeiden(**wrong)
