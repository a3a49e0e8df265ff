import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.halo import halo, part_with_halo


def seen_from(near, cells, num_hops):
    """Breadth-first search, one cell after the other."""
    reached = set(cells)
    frontier = set(cells)
    for _ in range(num_hops):
        frontier = {int(other) for cell in frontier for other in near[cell].indices} - reached
        reached |= frontier
    return reached


@pytest.fixture(params=["symmetric", "directed", "coincident"])
def graph(request, tissue):
    graph = build_graph(tissue, builder=KNN(5), virtual_cells=None)
    if request.param == "symmetric":
        return graph
    pos = graph.pos if request.param == "directed" else np.repeat(graph.pos[:80], 4, axis=0)
    near = KNN(4, symmetric=False)(pos)
    return SliceGraph("s", graph.x, pos, near, None, 1.0, "um")


@pytest.mark.parametrize("num_hops", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("cells", [[0], [0, 17, 100], list(range(40, 90)), [5, 3, 1], [3, 3, 4]])
def test_what_a_search_finds(graph, num_hops, cells):
    reached = seen_from(graph.near, cells, num_hops)
    part = part_with_halo(graph, np.array(cells), num_hops)
    assert part.cells.tolist() == sorted(reached)
    assert part.cells.dtype == np.int64
    assert part.cells[part.owned].tolist() == sorted(set(cells))
    assert part.owned.dtype == np.bool_
    np.testing.assert_array_equal(part.context, ~part.owned)
    assert len(part) == len(reached)
    found = halo(graph, np.array(cells), num_hops)
    assert found.tolist() == sorted(reached - set(cells))
    assert found.dtype == np.int64


def test_a_halo_is_what_cells_see():
    """Cell 0 sees 1, which sees 2; nobody sees 0."""
    pos = np.array([[0.0, 0.0], [1.0, 0.0], [1.5, 0.0]])
    graph = SliceGraph("s", None, pos, KNN(1, symmetric=False)(pos), None, 1.0, "um")
    assert halo(graph, np.array([0]), 1).tolist() == [1]
    assert halo(graph, np.array([0]), 2).tolist() == [1, 2]
    assert halo(graph, np.array([1, 2]), 5).tolist() == []


def test_many_cells_with_large_numbers():
    """Tables of any fill, and no collision that loses a cell."""
    n = 200_000
    pos = np.arange(n)[:, None] * [1.0, 0.0]
    graph = SliceGraph("s", None, pos, KNN(2)(pos), None, 1.0, "um")
    for size in (1, 7, 8, 9, 63, 64, 65, 5000):
        cells = np.sort(np.random.default_rng(size).choice(np.arange(10, n - 10, 20), size, replace=False))
        part = part_with_halo(graph, cells, 3)
        np.testing.assert_array_equal(part.cells, (cells[:, None] + np.arange(-3, 4)).ravel())
        np.testing.assert_array_equal(part.cells[part.owned], cells)


def test_no_cells(graph):
    assert len(part_with_halo(graph, np.zeros(0, dtype=np.int64), 2)) == 0


def test_unusable_input(graph):
    with pytest.raises(InputError, match="0 hops or more, not -1"):
        halo(graph, np.array([0]), -1)
    for cells in ([0, len(graph)], [-1, 0]):
        with pytest.raises(InputError, match=f"a slice of {len(graph)} cells"):
            part_with_halo(graph, np.array(cells), 1)
    for cells in (np.ones(len(graph), dtype=bool), np.array([0.5])):
        with pytest.raises(InputError, match=f"by the rows of its cells, not by values of type {cells.dtype}"):
            part_with_halo(graph, cells, 1)
