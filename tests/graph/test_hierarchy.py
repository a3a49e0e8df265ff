from itertools import pairwise

import numpy as np
import pytest

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.graph.hierarchy import Hierarchical
from stgraph.graph.stofm_virtual_cells import SToFMVirtualCells
from stgraph.graph.virtual_cells import JointLeiden, aggregate

FINE = JointLeiden(alpha=0.0, resolution=3.0)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return rng.normal(size=(1500, 5)).astype(np.float32), rng.uniform(0, 1000, (1500, 2))


def levels(virtual):
    found = []
    while virtual is not None:
        found.append(virtual)
        virtual = virtual.parent
    return found


def test_every_level_is_the_mean_over_its_cells(cells):
    x, pos = cells
    found = levels(Hierarchical(FINE, max_coarse=(9, 4, 1))(x, pos))
    assert len(found) == 4
    membership = np.arange(len(x))
    for level in found:
        membership = level.membership[membership]
        direct = aggregate(membership, x, pos)
        np.testing.assert_array_equal(direct.membership, membership)  # numbered by number of cells
        np.testing.assert_array_equal(direct.num_cells, level.num_cells)
        np.testing.assert_allclose(direct.x, level.x, atol=1e-6)
        np.testing.assert_allclose(direct.pos, level.pos)
    assert len(found[-1]) == 1


def test_levels_shrink_to_what_was_asked(cells):
    found = levels(Hierarchical(FINE, max_coarse=(9, 4))(*cells))
    assert [len(level) <= most for level, most in zip(found[1:], (9, 4), strict=True)] == [True, True]
    assert all(len(level.membership) == len(finer) for finer, level in pairwise(found))
    assert all(len(level) < len(finer) for finer, level in pairwise(found))


def test_the_finest_level_is_that_of_the_base(cells):
    virtual, expected = Hierarchical(FINE)(*cells), FINE(*cells)
    np.testing.assert_array_equal(virtual.membership, expected.membership)
    np.testing.assert_array_equal(virtual.x, expected.x)


def test_parents_are_regions():
    """Two pieces of tissue, each with its own virtual cells: none of the parents spans both."""
    rng = np.random.default_rng(0)
    piece = np.repeat([0, 1], 600)
    pos = rng.uniform(0, 100, (1200, 2)) + 500 * piece[:, None]
    virtual = Hierarchical(FINE, max_coarse=(2,))(rng.normal(size=(1200, 3)), pos)
    top = virtual.parent.membership[virtual.membership]
    assert len(virtual.parent) == 2
    assert len(set(zip(piece.tolist(), top.tolist(), strict=True))) == 2


def test_rotation_and_order_change_nothing(cells):
    x, pos = cells
    turn, order = np.array([[0.6, -0.8], [0.8, 0.6]]), np.random.default_rng(1).permutation(len(x))
    builder = Hierarchical(FINE, max_coarse=(6,))
    virtual, other = builder(x, pos), builder(x[order], (pos @ turn.T + 9)[order])
    np.testing.assert_array_equal(
        virtual.parent.membership[virtual.membership][order], other.parent.membership[other.membership]
    )


def test_every_slice_has_all_levels():
    """One that joins nothing repeats the level below."""
    for builder in (Hierarchical(max_coarse=(3, 2)), Hierarchical(JointLeiden(max_virtual=1), max_coarse=(3, 2))):
        for virtual in (builder(np.ones((1, 3)), np.zeros((1, 2))), builder(np.ones((40, 3)), np.eye(40)[:, :2])):
            found = levels(virtual)
            assert len(found) == 3
            assert [int(level.num_cells.sum()) for level in found] == [len(found[0].membership)] * 3
    assert [len(level) for level in found] == [1, 1, 1]


def test_a_level_that_joins_nothing_is_not_the_last():
    """Cells of four islands: Leiden joins none of them, but a later number asks for fewer; those nearest in space."""
    island = np.repeat(np.arange(4), 20)
    pos = np.random.default_rng(0).random((80, 2)) + np.array([[0, 0], [9, 0], [50, 0], [59, 0]])[island]
    builder = Hierarchical(JointLeiden(alpha=0.0, resolution=0.1), max_coarse=(8, 2))
    found = levels(builder(np.eye(2)[island % 2], pos))
    assert [len(level) for level in found] == [4, 4, 2]
    top = found[2].membership[found[1].membership[found[0].membership]]
    assert len(set(zip((island // 2).tolist(), top.tolist(), strict=True))) == 2


def test_another_base(cells):
    virtual = Hierarchical(SToFMVirtualCells(), max_coarse=[5])(*cells)
    assert len(virtual) > len(virtual.parent)
    assert len(virtual.parent) <= 5


def test_config_round_trip():
    builder = Hierarchical(FINE, max_coarse=[9, 3], resolution=0.5)
    assert instantiate(to_config(builder)) == builder


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_coarse": ()}, "decreasing positive numbers"),
        ({"max_coarse": (4, 4)}, "decreasing positive numbers"),
        ({"max_coarse": (4, 0)}, "decreasing positive numbers"),
        ({"resolution": 0.0}, "positive resolution"),
        ({"n_neighbors": 0}, "n_neighbors of at least 1, not 0"),
        ({"base": "joint_leiden"}, "builder of virtual cells as its base, not 'joint_leiden'"),
    ],
)
def test_senseless_parameters(wrong, message):
    with pytest.raises(InputError, match=message):
        Hierarchical(**wrong)
