import torch

from stgraph.nn.neighbor_keys import NeighborKeys, NeighborPlaces


def places(neighbors, distance, num_places=12):
    return NeighborPlaces.of(torch.tensor(neighbors), torch.tensor(distance), num_places)


def test_absent_neighbours_are_left_out_and_ranks_stay():
    found = places(
        [[4, -1, 2], [-1, -1, -1], [3, 1, -1]], [[5.0, torch.inf, 9.0], [torch.inf] * 3, [5.0, 9.0, torch.inf]]
    )
    assert found.row.tolist() == [4, 2, 3, 1]
    assert torch.isfinite(found.place).all()
    # Half tells how far, half which in order: the second of one is the third of another, at the same distance.
    far, rank = found.place[:, :6], found.place[:, 6:]
    assert torch.equal(far[1], far[3])
    assert not torch.allclose(rank[1], rank[3])
    assert torch.equal(rank[0], rank[2])


def test_places_by_hand():
    found = places([[0]], [[10.0]], num_places=6)
    grid = torch.tensor([0.1, 10_000.0]).log()
    at = torch.linspace(float(grid[0]), float(grid[1]), 3)
    step = at[1] - at[0]
    expected = torch.exp(-0.5 * ((torch.tensor(10.0).log() - at) / step) ** 2)
    torch.testing.assert_close(found.place[0, :3], expected)
    assert found.place[0, 3] == 1.0  # the first in order is where the grid of ranks begins


def test_distances_beyond_the_grid_are_its_ends():
    found = places([[0, 1, 2]], [[0.0, 20_000.0, 10_000.0]], num_places=8)
    assert found.place[0, 0] == 1.0
    torch.testing.assert_close(found.place[1, :4], found.place[2, :4])


def test_keys_are_of_the_cell_plus_where_it_is():
    torch.manual_seed(0)
    keys = NeighborKeys(8, heads=2, num_places=12)
    summaries = torch.randn(3, 4, 8)
    here = places([[2, 0], [2, -1]], [[5.0, 8.0], [6.0, torch.inf]])
    found = keys(summaries, here)
    assert found.shape == (12, 2, 2, 4)  # three neighbours of four summaries; keys and values of two heads
    expected = [
        keys.key_value(keys.norm(summaries[row, m])) + keys.place.weight @ here.place[at]
        for at, row in enumerate([2, 0, 2])
        for m in range(4)
    ]
    torch.testing.assert_close(found.flatten(1), torch.stack(expected))


def test_no_neighbours_at_all():
    keys = NeighborKeys(8, heads=2, num_places=12)
    assert keys(torch.randn(1, 4, 8), places([[-1]], [[torch.inf]])).shape == (0, 2, 2, 4)
