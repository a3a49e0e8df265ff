import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.space_filling import SpaceFillingCurve, hilbert_order
from stgraph.testing.partitioners import PartitionerContract


class TestContract(PartitionerContract):
    make = staticmethod(SpaceFillingCurve)


def square(side):
    return np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(float)


@pytest.mark.parametrize("side", [2, 4, 32, 64])
def test_every_step_on_a_square_is_to_the_next_cell(side):
    """This, and that quadrants are filled one after the other, makes it Hilbert's curve."""
    cells = np.random.default_rng(0).permutation(square(side))
    along = cells[hilbert_order(cells)]
    np.testing.assert_array_equal(np.abs(np.diff(along, axis=0)).sum(axis=1), 1)
    quadrant = (along // (side / 2)) @ [2, 1]
    assert (np.diff(quadrant) != 0).sum() == 3


def test_it_is_a_permutation_of_any_cells():
    pos = np.random.default_rng(0).normal(size=(1000, 2)) ** 5
    np.testing.assert_array_equal(np.sort(hilbert_order(pos)), np.arange(1000))


def test_coincident_cells_keep_their_order():
    pos = np.repeat(np.random.default_rng(0).uniform(size=(20, 2)), 3, axis=0)
    np.testing.assert_array_equal(hilbert_order(pos).reshape(-1, 3) % 3, np.tile([0, 1, 2], (20, 1)))
    assert hilbert_order(np.full((4, 2), 7.0)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**900, 1e308])
def test_magnitude_does_not_matter(scale):
    pos = np.random.default_rng(0).uniform(-1, 1, size=(500, 2))
    np.testing.assert_array_equal(hilbert_order(pos * scale), hilbert_order(pos))


def test_no_cells():
    assert hilbert_order(np.zeros((0, 2))).tolist() == []


def test_parts_follow_each_other():
    pos = square(16)
    partition = SpaceFillingCurve(25)(SliceGraph("s", None, pos, None, None, 1.0, "um"))
    assert sorted(partition.sizes) == [25] * 4 + [26] * 6
    assert (np.diff(partition.membership[hilbert_order(pos)]) >= 0).all()


@pytest.mark.parametrize("pos", [np.zeros((4, 3)), np.zeros(4), np.array([[0.0, np.nan]]), np.array([[np.inf, 0.0]])])
def test_unusable_positions(pos):
    with pytest.raises(InputError, match=r"finite positions of shape \(N, 2\)"):
        hilbert_order(pos)


def test_senseless_part_size():
    with pytest.raises(InputError, match="SpaceFillingCurve needs a part_size"):
        SpaceFillingCurve(0)
