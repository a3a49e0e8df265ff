import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.tiles import SquareTiles, _squares
from stgraph.testing.partitioners import PartitionerContract


class TestContract(PartitionerContract):
    make = staticmethod(SquareTiles)


def graph_at(pos):
    return SliceGraph("s", np.zeros((len(pos), 1), np.float32), pos, None, None, 1.0, "um")


def stofm(pos, num):
    """Section 3.2 of SToFM's specification, word by word."""
    n = len(pos)
    if n <= num:
        return [list(range(n))]
    x_min, y_min = pos.min(axis=0)
    x_len, y_len = pos.max(axis=0) - pos.min(axis=0)
    k = n // num + 1
    side = np.sqrt(x_len * y_len / k)
    nx, ny = int(x_len / side) + 1, int(y_len // side) + 1
    tiles = []
    for i in range(nx):
        for j in range(ny):
            box = [
                c
                for c, (x, y) in enumerate(pos.tolist())
                if x_min + i * side <= x < x_min + (i + 1) * side and y_min + j * side <= y < y_min + (j + 1) * side
            ]
            if len(box) // num >= 2:
                tiles += [tile.tolist() for tile in np.array_split(box, len(box) // num)]
            elif box:
                tiles.append(box)
    return tiles


@pytest.mark.parametrize("seed", range(12))
def test_same_tiles_as_stofm(seed):
    rng = np.random.default_rng(seed)
    n, num = int(rng.integers(1, 400)), int(rng.integers(1, 60))
    pos = rng.uniform(size=(n, 2)) * rng.uniform(0.1, 1000, size=2)
    if seed % 3 == 0:
        pos = rng.normal(size=(n, 2)) ** 3  # crowded squares, and many with a single cell
    if seed % 3 == 1:
        pos = np.floor(pos)  # cells on the edges of squares
    expected = stofm(pos, num)
    partition = SquareTiles(num)(graph_at(pos))
    assert [partition.cells(p).tolist() for p in range(partition.num_parts)] == expected


def test_a_cell_just_before_an_edge_stays_before_it():
    # The quotient of its place and the side of a square is 3.0, and yet it lies in the third square, not in the fourth.
    pos = np.array([[2.4, 0.0], [10.4, 1.5], [6.642640687119285, 0.5], [6.7, 0.5], [6.6, 0.5]])
    partition = SquareTiles(1)(graph_at(pos))
    assert [partition.cells(p).tolist() for p in range(partition.num_parts)] == stofm(pos, 1)
    assert np.floor((pos[2, 0] - 2.4) / np.sqrt((pos[1, 0] - 2.4) * 1.5 / 6)) == 3
    squares = _squares(pos, 6)
    assert squares[2] == squares[4] != squares[3]


@pytest.mark.parametrize(("n", "tiles"), [(1000, 1), (2000, 6), (5000, 9), (10_000, 12), (50_000, 54)])
def test_counts_of_the_specification(n, tiles):
    """Its slices are not at hand, but of all rectangles only those about 10 to 7 give these four counts."""
    pos = np.random.default_rng(0).uniform(size=(n, 2)) * [10.0, 7.0]
    sizes = SquareTiles(1000)(graph_at(pos)).sizes
    assert len(sizes) == tiles
    if n == 5000:
        assert (sizes < 100).sum() == 3


def test_a_crowded_square_is_split_in_the_order_of_the_cells():
    pos = np.random.default_rng(0).uniform(0, 0.1, size=(103, 2))
    pos[0], pos[1] = (0.0, 0.0), (1.0, 1.0)
    partition = SquareTiles(25)(graph_at(pos))
    assert partition.sizes.tolist() == [26, 26, 25, 25, 1]
    assert partition.cells(0).tolist() == [0, *range(2, 27)]


def test_no_extent_along_an_axis():
    """SToFM divides by zero."""
    pos = np.arange(100.0)[:, None] * [0.0, 1.0]
    partition = SquareTiles(30)(graph_at(pos))
    assert partition.sizes.tolist() == [25, 25, 25, 25]  # four squares as for an even tissue
    np.testing.assert_array_equal(np.sort(partition.membership), partition.membership)
    assert SquareTiles(30)(graph_at(np.ones((100, 2)))).sizes.tolist() == [34, 33, 33]


@pytest.mark.parametrize("scale", [2.0**-800, 2.0**800])
def test_magnitude_does_not_matter(scale):
    pos = np.random.default_rng(0).uniform(size=(500, 2))
    first, second = (SquareTiles(30)(graph_at(p)).membership for p in (pos, pos * scale))
    np.testing.assert_array_equal(first, second)


def test_senseless_part_size():
    with pytest.raises(InputError, match="SquareTiles needs a part_size"):
        SquareTiles(0)
